# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Prove what is served: every output over HTTP and gRPC against a reference, with numbers."""

from trtkit.tolerance import TOLERANCES, tolerance_for
from trtkit.validate.reference import why_no_reference
from trtkit.validate.report import junit_xml
from trtkit.validate.run import MetricResult, ModelReport, OutputResult, validate_model

__all__ = [
    "TOLERANCES",
    "MetricResult",
    "ModelReport",
    "OutputResult",
    "junit_xml",
    "tolerance_for",
    "validate_model",
    "why_no_reference",
]
