# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from trtkit.images import known_images
from trtkit.preflight import VERSION_COMPATIBLE_OPTION, gpu_problem, graph_problem, plan_verdict
from trtkit.project import Target

IMAGE = "nvcr.io/nvidia/tritonserver"
MANIFEST = {"compute_capability": "8.9", "options": {"version_compatible": False, "hardware_compatibility": "none"}}

AMPERE, SAME = ({"hardware_compatibility": level} for level in ("ampere_plus", "same_compute_capability"))
EP = {"execution_provider": "tensorrt"}


@dataclass(frozen=True)
class Plan:
    version: tuple[int, ...] = (10, 3, 0, 26)
    flavour: str = "tensorrt"


def target(image: str | None = f"{IMAGE}:24.08-py3", capability: Any = "8.9", **more: Any) -> Target:
    return Target(backend="tensorrt", image=image, compute_capability=capability, **more)


def manifest(**options: Any) -> dict[str, Any]:
    return {"compute_capability": "8.9", **options}


def test_a_plan_of_the_images_own_version_loads() -> None:
    verdict = plan_verdict(Plan(), MANIFEST, target())
    assert (verdict.state, verdict.reason, verdict.server_options) == ("fine", "", ())
    assert verdict.problem is verdict.advice is None


def test_another_version_is_refused_with_the_image_that_would_load_it() -> None:
    verdict = plan_verdict(Plan(), MANIFEST, target(f"{IMAGE}:25.10-py3"), "digits/1/model.plan")
    assert verdict.problem == (
        f"digits/1/model.plan was built by TensorRT 10.3.0.26 and {IMAGE}:25.10-py3 has 10.13.3.9, which loads only "
        f"plans of its own version; rebuild the plan there, or serve it with {IMAGE}:24.08-py3"
    )


@pytest.mark.parametrize(
    ("plan", "image", "more", "options", "state", "words"),
    [
        (Plan((1, 7, 1, 116), "tensorrt_rtx"), "24.08-py3", {}, {}, "problem", "RTX 1.7.1.116, which no Triton"),
        (Plan((10, 99, 0, 1)), "24.08-py3", {}, {}, "problem", "an image that has 10.99.0 \\(trtkit knows none\\)"),
        (Plan((10, 3, 0, 30)), "24.08-py3", {}, {}, "unknown", "another build of the same version"),
        (Plan((8, 6, 1, 6)), "23.05-py3", {}, {}, "problem", "8.6.1.2, another build of the same version"),
        (Plan((8, 6, 1, 2)), "23.05-py3", {}, {}, "fine", "^$"),
        (Plan((8, 6, 1, 6)), "23.10-py3", {}, {}, "unknown", "which no document confirms"),
        (Plan((10, 3, 0, 26)), "23.10-py3", {}, {}, "unknown", "which no document confirms"),
        (Plan(), "24.08-py3-ours", {}, {}, "unknown", "which TensorRT is in .*ours is not known; give the target's"),
        (Plan(), None, {}, {}, "unknown", "the target names no image; give the target's tensorrt_version"),
        (Plan(), None, {"tensorrt_version": "10.3.0"}, {}, "fine", "^$"),
        (Plan(), None, {"tensorrt_version": "10.3"}, {}, "unknown", "the target has 10.3, of which three numbers"),
        (Plan(), "24.08-py3", {"tensorrt_version": "10.4.0"}, {}, "problem", "24.08-py3 has 10.4.0, which loads only"),
        (Plan((11, 0, 0, 114)), "26.06-py3", {}, {}, "unknown", "has 11, of which three numbers are needed"),
        (Plan(), "26.06-py3", {}, {}, "problem", "26.06-py3 has 11, which loads only"),
        (Plan(), "25.10-py3", {}, {"version_compatible": True}, "fine", "^$"),
        (Plan(), "26.06-py3", {}, {"version_compatible": True}, "fine", "^$"),
        (Plan((8, 6, 1, 6)), "25.10-py3", {}, {"version_compatible": True}, "fine", "^$"),
        (Plan((8, 6, 1, 6)), "26.06-py3", {}, {"version_compatible": True}, "problem", "only 8 to 10 and 10 to 11"),
        (Plan((10, 13, 3, 9)), "24.08-py3", {}, {"version_compatible": True}, "problem", "which is older"),
        (Plan((8, 6, 1, 2)), "23.05-py3", {}, {"version_compatible": True}, "problem", "has no option to load such"),
        (Plan(), "24.08-py3", {"capability": "9.0"}, {}, "problem", "8.9 and the target's GPUs have 9.0"),
        (Plan(), "24.08-py3", {"capability": ["8.6", "8.9"]}, {}, "fine", "^$"),
        (Plan(), "24.08-py3", {"capability": None}, {}, "unknown", "give the target's compute_capability"),
        (Plan(), "24.08-py3", {"capability": "9.0"}, AMPERE, "fine", "^$"),
        (Plan(), "24.08-py3", {"capability": "7.5"}, AMPERE, "problem", "the target has 7.5"),
        (Plan(), "24.08-py3", {"capability": "9.0"}, SAME, "problem", "have 9.0"),
    ],
)  # fmt: skip
def test_what_loads_where(
    plan: Plan, image: str | None, more: dict[str, Any], options: dict[str, Any], state: str, words: str
) -> None:
    verdict = plan_verdict(plan, manifest(**options), target(image and f"{IMAGE}:{image}", **more))
    assert verdict.state == state, verdict
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(verdict.reason)
    assert (verdict.problem, verdict.advice) == (
        (verdict.reason, None) if state == "problem" else (None, verdict.reason or None)
    )


def test_a_version_compatible_plan_needs_the_servers_consent() -> None:
    verdict = plan_verdict(Plan(), {**MANIFEST, "options": {"version_compatible": True}}, target())
    assert verdict.server_options == (VERSION_COMPATIBLE_OPTION,)


def test_a_plan_without_a_manifest_is_advice_and_a_wrong_version_still_a_problem() -> None:
    assert plan_verdict(Plan(), None, target()).advice == (
        "for which GPU the plan was built is not known: there is no engine.json beside it"
    )
    assert plan_verdict(Plan((10, 4, 0, 26)), None, target()).problem


@given(
    st.tuples(*[st.integers(0, 20)] * 4),
    st.sampled_from([None, *known_images()]),
    st.sampled_from([None, "7.5", "8.9", ["8.6", "9.0"]]),
    st.fixed_dictionaries({}, optional={"compute_capability": st.sampled_from(["8.9", "9.0", "", None])}),
    st.booleans(),
)
def test_a_verdict_is_fine_or_says_why(version: Any, image: Any, capability: Any, found: Any, compatible: bool) -> None:
    verdict = plan_verdict(Plan(version), {**found, "version_compatible": compatible}, target(image, capability))
    assert (verdict.state == "fine") == (verdict.reason == "")
    assert "\n" not in verdict.reason
    if verdict.state == "fine" and not compatible:
        assert image is not None


@pytest.mark.parametrize(
    ("opset", "precision", "where", "sentence"),
    [
        (18, "fp32", {"tensorrt_version": "8.6.1"}, "opset 18 and TensorRT 8.6.1 takes at most 17; export"),
        (17, "fp32", {"tensorrt_version": "8.6.1"}, None),
        (21, "fp32", {"tensorrt_version": "10.0.1"}, "takes at most 20"),
        (24, "fp32", {"image": f"{IMAGE}:24.08-py3"}, None),  # 10.3 takes 20 to 24, which is not known
        (25, "fp32", {"image": f"{IMAGE}:24.08-py3"}, f"TensorRT 10.3.0.26 of {IMAGE}:24.08-py3 takes at most 24"),
        (26, "fp32", {"tensorrt_version": "11"}, "takes at most 25"),
        (99, "fp32", {"tensorrt_version": "12.0"}, None),
        (99, "fp32", {"image": f"{IMAGE}:23.10-py3"}, None),  # unverified
        (99, "fp32", {}, None),
        (22, "fp32", {"backend": "onnxruntime", "image": f"{IMAGE}:24.08-py3"}, "ONNX Runtime 1.18.1 of"),
        (21, "fp32", {"backend": "onnxruntime", "image": f"{IMAGE}:24.08-py3"}, None),
        (17, "bf16", {"backend": "onnxruntime"}, "ONNX Runtime has no CPU kernels for bf16"),
        (17, "fp8", {"backend": "onnxruntime"}, "ONNX Runtime has no CPU kernels for fp8"),
        (17, "fp8+fp16", {"tensorrt_version": "8.6.1"}, "TensorRT 8.6.1 has no fp8, which came with 9.0"),
        (17, "bf16", {"backend": "onnxruntime", **EP, "tensorrt_version": "8.6.1"}, "no bf16"),
        (17, "fp8", {"compute_capability": "8.6"}, "fp8 needs compute capability 8.9, and the target has 8.6"),
        (17, "bf16", {"compute_capability": ["7.5", "8.6"]}, "needs compute capability 8.0, and the target has 7.5"),
        (17, "bf16", {"backend": "onnxruntime", "execution_provider": "cuda", "compute_capability": "7.5"}, "has 7.5"),
        (17, "fp8+fp16", {"compute_capability": "8.9"}, None),
        (17, "int8+fp16", {"compute_capability": "7.5"}, None),
        (17, "auto", {"backend": "onnxruntime"}, None),
        (None, "fp32", {"tensorrt_version": "8.6.1"}, None),
        (None, "fp8", {"tensorrt_version": "8.6.1"}, "no fp8"),
        (17, "fp16", {"compute_capability": "7.0", "image": f"{IMAGE}:25.01-py3"}, "from compute capability 7.5, not"),
        (17, "fp16", {"compute_capability": "7.0", "image": f"{IMAGE}:24.12-py3"}, None),
        (17, "fp16", {"compute_capability": "12.0", "image": f"{IMAGE}:24.12-py3"}, "is older than GPUs of"),
        (17, "fp16", {"compute_capability": "12.0", "image": f"{IMAGE}:25.01-py3"}, None),
    ],
)  # fmt: skip
def test_what_a_target_takes(opset: int | None, precision: str, where: dict[str, Any], sentence: str | None) -> None:
    problem = graph_problem(opset, precision, Target(**{"backend": "tensorrt", **where}))
    assert problem is None if sentence is None else sentence in (problem or "")


def test_a_cpu_target_has_no_gpu_to_be_too_old() -> None:
    assert gpu_problem(Target(image=f"{IMAGE}:25.01-py3", compute_capability="7.0")) is None


def test_the_onnx_runtime_here_keeps_to_the_table() -> None:
    def loads(opset: int) -> bool:
        tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", tensors[:1], tensors[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        try:
            ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        except ort.capi.onnxruntime_pybind11_state.Fail:
            return False
        return True

    limit = max(opset for opset in range(17, onnx.defs.onnx_opset_version() + 3) if loads(opset))
    here = Target(onnxruntime_version=ort.__version__)
    assert graph_problem(limit, "fp32", here) is None
