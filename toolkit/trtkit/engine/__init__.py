# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""TensorRT engines: profiles, the builder with the TensorRT module passed in, plans and what is known of them."""

from trtkit.engine.build_process import build_in_process
from trtkit.engine.builder import BuiltEngine, build_engine
from trtkit.engine.check import EngineCheck, check_engine
from trtkit.engine.manifest import manifest_of, manifest_problems, parse_manifest, read_manifest, save_engine
from trtkit.engine.options import DEFAULT_WORKSPACE_BYTES, EngineOptions
from trtkit.engine.plan import PlanHeader, plan_header, plan_info
from trtkit.engine.profiles import Profile, ShapeRange, default_profiles, profile_problems

__all__ = [
    "DEFAULT_WORKSPACE_BYTES",
    "BuiltEngine",
    "EngineCheck",
    "EngineOptions",
    "PlanHeader",
    "Profile",
    "ShapeRange",
    "build_engine",
    "build_in_process",
    "check_engine",
    "default_profiles",
    "manifest_of",
    "manifest_problems",
    "parse_manifest",
    "plan_header",
    "plan_info",
    "profile_problems",
    "read_manifest",
    "save_engine",
]
