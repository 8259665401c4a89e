# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The part `nms`: its arithmetic against a plain loop and ONNX Runtime's operator, and the model on a real server."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tritonclient import grpc as grpcclient
from tritonclient import http as httpclient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from part_models import write_part
from trtkit.config import ModelConfig
from trtkit.parts import part_folder
from trtkit.server import RunningServer, serve

APIS: dict[str, Any] = {"http": httpclient, "grpc": grpcclient}
MOST = 6


def part_module(name: str) -> ModuleType:
    sys.path.insert(0, str(part_folder("nms")))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


nms, layouts = part_module("trtkit_nms"), part_module("trtkit_nms_layouts")


# -- the arithmetic


def plain_iou(a: np.ndarray, b: np.ndarray) -> np.float32:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return np.float32(0)
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def plain_nms(boxes: np.ndarray, scores: np.ndarray, limits: Any) -> list[tuple[int, int]]:
    """(class, box) of what is kept, best first, one by one."""
    ordered = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    pairs = [
        (label, row)
        for row in range(len(boxes))
        for label in range(scores.shape[1])
        if scores[row, label] > np.float32(limits.score_threshold) and np.isfinite(boxes[row]).all()
    ]
    if not limits.multi_label:
        of_row: dict[int, list[int]] = {}
        for label, row in pairs:
            of_row.setdefault(row, []).append(label)
        pairs = [(max(labels, key=lambda each: scores[row, each]), row) for row, labels in of_row.items()]
    kept: list[tuple[int, int]] = []
    for label, row in sorted(pairs, key=lambda pair: -scores[pair[1], pair[0]]):
        rivals = [other for other_label, other in kept if limits.class_agnostic or other_label == label]
        # not ≤: boxes of infinite area overlap by NaN, which suppresses nothing
        if not any(plain_iou(ordered[other], ordered[row]) > np.float32(limits.iou_threshold) for other in rivals):
            kept.append((label, row))
    return kept[: limits.max_detections]


COORDINATES = st.one_of(st.integers(-4, 12).map(float), st.sampled_from([0.5, 3.25, np.nan, np.inf, -np.inf, 3e38]))
SCORES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.5, 1.0, np.nan, -1.0]), st.floats(0, 1, width=32))


@st.composite
def images(draw: Any, coordinates: Any = COORDINATES, scores: Any = SCORES) -> tuple[np.ndarray, np.ndarray]:
    count, classes = draw(st.integers(0, 20)), draw(st.integers(1, 4))
    boxes = [draw(st.tuples(*[coordinates] * 4)) for _ in range(count)]
    rows = [[draw(scores) for _ in range(classes)] for _ in range(count)]
    return np.array(boxes, np.float32).reshape(count, 4), np.array(rows, np.float32).reshape(count, classes)


LIMITS = st.builds(
    nms.Limits,
    iou_threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    score_threshold=st.sampled_from([0.0, 0.25, 0.5]),
    max_detections=st.sampled_from([1, 3, 100]),
    class_agnostic=st.booleans(),
    multi_label=st.booleans(),
)


@given(images(), LIMITS)
def test_what_is_kept_is_what_a_plain_loop_keeps(image: tuple[np.ndarray, np.ndarray], limits: Any) -> None:
    boxes, scores = image
    with np.errstate(all="ignore"):
        expected = plain_nms(boxes, scores, limits)
    kept = nms.suppress(nms.candidates(boxes, scores, limits, "xyxy"), limits)
    assert kept.classes.tolist() == [label for label, _ in expected]
    assert kept.scores.tolist() == [scores[row, label] for label, row in expected]
    assert np.array_equal(kept.boxes, nms.corners(boxes[[row for _, row in expected]], "xyxy"))


@pytest.mark.parametrize("count", [127, 128, 129, 1000])
def test_many_boxes_cross_the_edges_of_blocks(count: int) -> None:
    random = np.random.default_rng(count)
    corner = random.integers(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + random.integers(1, 20, (count, 2))], axis=1).astype(np.float32)
    scores = random.integers(0, 50, (count, 3)).astype(np.float32) / 50
    limits = nms.Limits(iou_threshold=0.4, score_threshold=0.1, max_detections=10_000)
    kept = nms.suppress(nms.candidates(boxes, scores, limits, "xyxy"), limits)
    expected = plain_nms(boxes, scores, limits)
    assert len(expected) > 60
    assert list(zip(kept.classes.tolist(), kept.boxes.tolist(), strict=True)) == [
        (label, boxes[row].tolist()) for label, row in expected
    ]


def onnx_nms(center_point_box: int) -> ort.InferenceSession:
    names = ["boxes", "scores", "most", "iou", "score"]
    node = helper.make_node("NonMaxSuppression", names, ["kept"], center_point_box=center_point_box)
    types = [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64, TensorProto.FLOAT, TensorProto.FLOAT]
    shapes = [[1, "n", 4], [1, "c", "n"], [1], [1], [1]]
    inputs = [helper.make_tensor_value_info(*each) for each in zip(names, types, shapes, strict=True)]
    graph = helper.make_graph([node], "nms", inputs, [helper.make_tensor_value_info("kept", TensorProto.INT64, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


OPERATORS = {"yxyx": onnx_nms(0), "cxcywh": onnx_nms(1)}


@pytest.mark.parametrize("box_format", list(OPERATORS))
@given(image=images(st.integers(0, 12).map(float), st.floats(0, 1, width=32)), limits=LIMITS)
def test_what_is_kept_is_what_the_operator_of_onnx_keeps(
    box_format: str, image: tuple[np.ndarray, np.ndarray], limits: Any
) -> None:
    boxes, scores = image
    limits = nms.Limits(limits.iou_threshold, limits.score_threshold, 10_000, multi_label=True)
    feed = {
        "boxes": boxes[None], "scores": np.ascontiguousarray(scores.T)[None], "most": np.array([1000]),
        "iou": np.float32([limits.iou_threshold]), "score": np.float32([limits.score_threshold]),
    }  # fmt: skip
    expected = OPERATORS[box_format].run(None, feed)[0]
    kept = nms.suppress(nms.candidates(boxes, scores, limits, box_format), limits)
    corners = nms.corners(boxes, box_format)
    assert sorted(zip(kept.classes.tolist(), kept.scores.tolist(), kept.boxes.tolist(), strict=True)) == sorted(
        (int(label), float(scores[row, label]), corners[row].tolist()) for _, label, row in expected
    )


@pytest.mark.parametrize(
    ("box_format", "box"),
    [("xyxy", [5, 8, 1, 2]), ("yxyx", [2, 1, 8, 5]), ("xywh", [1, 2, 4, 6]), ("cxcywh", [3, 5, 4, 6])],
)
def test_every_box_format_gives_the_same_corners(box_format: str, box: list[int]) -> None:
    assert nms.corners(np.array([box], np.float32), box_format).tolist() == [[1, 2, 5, 8]]


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_logits_far_from_zero_neither_warn_nor_win_by_accident(activation: str) -> None:
    detector = layouts.Detector("boxes_scores", "xyxy", activation, "none", nms.Limits(0.5, 0.25, 10))
    boxes = np.array([[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]], np.float32)
    logits = np.array([[-1000, 1000], [-1000, -1000], [np.nan, np.inf]], np.float32)
    found = detector.detect({"boxes": boxes, "scores": logits})
    assert (found.scores[0], found.classes[0], found.boxes[0, 0]) == (1, 1, 0)
    assert np.isfinite(found.scores).all()


def test_softmax_leaves_objectness_alone() -> None:
    detector = layouts.Detector("yolov5", "cxcywh", "softmax", "none", nms.Limits(0.5, 0.25, 10))
    values = np.array([[5, 5, 10, 10, 0.5, 100, 0], [5, 5, 10, 10, 0.1, 100, 0]], np.float32)
    assert detector.detect({"predictions": values}).scores.tolist() == [0.5]


# -- the model


def dims(config: ModelConfig, **tensors: list[int]) -> None:
    """Give the inputs these names and dims."""
    del config.input[:]
    for name, shape in tensors.items():
        config.input.add(name=name, data_type="TYPE_INT32" if name == "classes" else "TYPE_FP32", dims=shape)


def predictions(*shape: int) -> Callable[[ModelConfig], None]:
    return lambda config: dims(config, predictions=list(shape))


def with_classes(config: ModelConfig) -> None:
    dims(config, boxes=[-1, 4], scores=[-1], classes=[-1])


def half(config: ModelConfig) -> None:
    for tensor in (*config.input, *config.output):
        if tensor.data_type == "TYPE_FP32" or tensor.name in ("boxes", "scores", "detection_boxes", "detection_scores"):
            tensor.data_type = 10  # TYPE_FP16


def without_batch(config: ModelConfig) -> None:
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")


def bytes_for_classes(config: ModelConfig) -> None:
    next(output for output in config.output if output.name == "detection_classes").data_type = "TYPE_UINT8"


def narrow(config: ModelConfig) -> None:
    del config.output[2:]
    config.output[1].dims[0] = MOST


MODELS: dict[str, tuple[dict[str, str], Callable[[ModelConfig], object] | None]] = {
    "plain": ({}, None),
    "agnostic": ({"class_agnostic": "true"}, None),
    "all_labels": ({"multi_label": "true"}, None),
    "half": ({}, half),
    "single": ({}, without_batch),
    "narrow": ({}, narrow),
    "classes": ({"layout": "boxes_scores_classes"}, with_classes),
    "yolov5": ({"layout": "yolov5", "box_format": "cxcywh"}, predictions(-1, 7)),
    "yolov8": ({"layout": "yolov8", "box_format": "cxcywh"}, predictions(6, -1)),
    "detr": ({"box_format": "cxcywh", "activation": "softmax", "background": "last", "iou_threshold": "1"}, None),
    "ssd": ({"box_format": "yxyx", "activation": "softmax", "background": "first"}, None),
}
REFUSED: dict[str, tuple[dict[str, str], Callable[[ModelConfig], object] | None, str]] = {
    "other_inputs": (
        {"layout": "yolov8"},
        None,
        "layout 'yolov8' reads the inputs predictions; config.pbtxt has boxes",
    ),
    "other_length": ({"max_detections": "7"}, narrow, r"'detection_boxes' has dims \[6, 4\], but max_detections makes"),
    "byte_classes": ({}, bytes_for_classes, "'detection_classes' is TYPE_UINT8, expected TYPE_INT32"),
    "misspelt": ({"iou_treshold": "0.5"}, None, "unknown parameter 'iou_treshold'; did you mean 'iou_threshold'?"),
    "too_much": ({"iou_threshold": "45"}, None, "'iou_threshold' is '45', expected a number, at least 0, at most 1"),
}


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One model each of MODELS, and those of REFUSED not yet loaded."""
    repository = tmp_path_factory.mktemp("nms")
    for name, (parameters, edit) in MODELS.items():
        write_part(repository, name, "nms", {"max_detections": str(MOST), **parameters}, edit=edit)
    for name, (parameters, edit, _) in REFUSED.items():
        write_part(repository, name, "nms", {"max_detections": str(MOST), **parameters}, edit=edit)
    with serve(repository, models=list(MODELS)) as server:
        yield server


def infer(
    server: RunningServer, model: str, protocol: str = "grpc", outputs: list[str] | None = None, **inputs: Any
) -> dict[str, np.ndarray]:
    api = APIS[protocol]
    url = server.grpc_url if protocol == "grpc" else server.http_url
    tensors = []
    for name, array in inputs.items():
        tensors.append(api.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        tensors[-1].set_data_from_numpy(array)
    with api.InferenceServerClient(url) as client:
        wanted = [api.InferRequestedOutput(name) for name in outputs] if outputs else None
        result = client.infer(model, tensors, outputs=wanted)
        response = result.get_response() if protocol == "http" else None
        names = (
            [each["name"] for each in response["outputs"]]
            if response
            else [each.name for each in result.get_response().outputs]
        )
        return {name: result.as_numpy(name) for name in names}


# two rows: three boxes of which the second overlaps the first; another class in the second row
BOXES = np.array([[[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]]] * 2, np.float32)
SCORE_ROWS = np.array([[[0.6, 0], [0.9, 0], [0, 0.5]], [[0.6, 0.3], [0.2, 0.9], [0, 0.1]]], np.float32)


def found(outputs: Mapping[str, np.ndarray], row: int) -> list[tuple[list[float], float, int]]:
    """What a row of the outputs holds; the rest of them must be padding."""
    count = int(outputs["num_detections"][row, 0])
    assert not outputs["detection_boxes"][row, count:].any()
    assert not outputs["detection_scores"][row, count:].any()
    assert (outputs["detection_classes"][row, count:] == -1).all()
    columns = (outputs[f"detection_{name}"][row, :count].tolist() for name in ("boxes", "scores", "classes"))
    return [(box, round(score, 3), label) for box, score, label in zip(*columns, strict=True)]


FIRST, SECOND, THIRD = BOXES[0].tolist()


@pytest.mark.parametrize("protocol", list(APIS))
def test_each_row_has_detections_of_its_own_and_padding(detectors: RunningServer, protocol: str) -> None:
    outputs = infer(detectors, "plain", protocol, boxes=BOXES, scores=SCORE_ROWS)
    assert {name: array.shape for name, array in outputs.items()} == {
        "num_detections": (2, 1), "detection_boxes": (2, MOST, 4),
        "detection_scores": (2, MOST), "detection_classes": (2, MOST),
    }  # fmt: skip
    assert found(outputs, 0) == [(SECOND, 0.9, 0), (THIRD, 0.5, 1)]
    assert found(outputs, 1) == [(SECOND, 0.9, 1), (FIRST, 0.6, 0)]


def test_class_agnostic_suppresses_across_classes(detectors: RunningServer) -> None:
    outputs = infer(detectors, "agnostic", boxes=BOXES, scores=SCORE_ROWS)
    assert found(outputs, 1) == [(SECOND, 0.9, 1)]


def test_multi_label_counts_a_box_for_each_class(detectors: RunningServer) -> None:
    boxes, scores = BOXES[1:, :1], SCORE_ROWS[1:, :1]
    assert found(infer(detectors, "all_labels", boxes=boxes, scores=scores), 0) == [(FIRST, 0.6, 0), (FIRST, 0.3, 1)]
    assert found(infer(detectors, "plain", boxes=boxes, scores=scores), 0) == [(FIRST, 0.6, 0)]


def test_half_precision_goes_in_and_out(detectors: RunningServer) -> None:
    outputs = infer(detectors, "half", boxes=BOXES.astype(np.float16), scores=SCORE_ROWS.astype(np.float16))
    assert outputs["detection_boxes"].dtype == outputs["detection_scores"].dtype == np.float16
    assert found(outputs, 0) == [(SECOND, 0.9, 0), (THIRD, 0.5, 1)]


def test_a_model_without_batching_takes_one_image(detectors: RunningServer) -> None:
    outputs = infer(detectors, "single", boxes=BOXES[0], scores=SCORE_ROWS[0])
    assert outputs["num_detections"].tolist() == [2]
    assert outputs["detection_boxes"].shape == (MOST, 4)


def test_classes_may_come_beside_the_scores(detectors: RunningServer) -> None:
    scores, classes = np.float32([[0.6, 0.9, 0.5]]), np.int32([[7, 7, 3]])
    outputs = infer(detectors, "classes", boxes=BOXES[:1], scores=scores, classes=classes)
    assert found(outputs, 0) == [(SECOND, 0.9, 7), (THIRD, 0.5, 3)]


CENTRED = np.array([[5, 5, 10, 10], [6, 5, 10, 10], [25, 25, 10, 10]], np.float32)


def test_yolov8_has_a_column_for_each_box(detectors: RunningServer) -> None:
    values = np.concatenate([CENTRED, SCORE_ROWS[0]], axis=1).T[None]
    assert found(infer(detectors, "yolov8", predictions=np.ascontiguousarray(values)), 0) == [
        (SECOND, 0.9, 0), (THIRD, 0.5, 1),
    ]  # fmt: skip


def test_yolov5_multiplies_with_whether_there_is_an_object(detectors: RunningServer) -> None:
    objectness = np.float32([[0.5], [0.1], [np.nan]])
    values = np.concatenate([CENTRED, objectness, np.float32([[0.8, 0], [1, 0], [0, 1]])], axis=1)[None]
    assert found(infer(detectors, "yolov5", predictions=values), 0) == [(FIRST, 0.4, 0)]


def test_detr_has_logits_and_a_last_class_for_nothing(detectors: RunningServer) -> None:
    logits = np.log(np.float32([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]]))
    outputs = infer(detectors, "detr", boxes=CENTRED[None], scores=logits)
    assert found(outputs, 0) == [(SECOND, 0.8, 1), (FIRST, 0.7, 0)]


def test_ssd_has_its_background_first(detectors: RunningServer) -> None:
    logits = np.log(np.float32([[[0.1, 0.2, 0.7], [0.9, 0.05, 0.05]]]))
    outputs = infer(detectors, "ssd", boxes=np.float32([[[1, 2, 3, 4], [5, 6, 7, 8]]]), scores=logits)
    assert found(outputs, 0) == [([2, 1, 4, 3], 0.7, 1)]


def test_no_boxes_and_nothing_but_nan_find_nothing(detectors: RunningServer) -> None:
    none = infer(detectors, "plain", boxes=np.zeros((1, 0, 4), np.float32), scores=np.zeros((1, 0, 2), np.float32))
    assert found(none, 0) == []
    no_classes = infer(detectors, "plain", boxes=BOXES, scores=np.zeros((2, 3, 0), np.float32))
    assert found(no_classes, 1) == []
    nan = infer(detectors, "plain", boxes=np.full_like(BOXES, np.nan), scores=np.full_like(SCORE_ROWS, np.nan))
    assert found(nan, 0) == found(nan, 1) == []


def test_more_boxes_than_the_outputs_hold_keep_the_best(detectors: RunningServer) -> None:
    corner = np.arange(0, 2000, 20, dtype=np.float32)
    boxes = np.stack([corner, corner, corner + 9, corner + 9], axis=1)[None]
    scores = np.linspace(0.3, 0.9, 100, dtype=np.float32)[None, :, None]
    outputs = infer(detectors, "plain", boxes=boxes, scores=scores)
    assert np.array_equal(outputs["detection_boxes"][0], boxes[0, :-7:-1])


def test_only_what_is_asked_for_is_answered(detectors: RunningServer) -> None:
    assert list(infer(detectors, "plain", outputs=["num_detections"], boxes=BOXES, scores=SCORE_ROWS)) == [
        "num_detections"
    ]
    assert set(infer(detectors, "narrow", boxes=BOXES, scores=SCORE_ROWS)) == {"num_detections", "detection_boxes"}


def test_a_wrong_request_fails_alone(detectors: RunningServer) -> None:
    def ask(index: int) -> str:
        scores = SCORE_ROWS if index % 3 else SCORE_ROWS[:, :2]
        try:
            return str(found(infer(detectors, "plain", boxes=BOXES, scores=scores), 0))
        except InferenceServerException as error:
            return error.message()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    assert set(answers[0::3]) == {"model 'plain': input 'scores' has shape [2, 2] for 3 boxes, expected [n, classes]"}
    assert set(answers[1::3]) | set(answers[2::3]) == {str([(SECOND, 0.9, 0), (THIRD, 0.5, 1)])}


@pytest.mark.parametrize("model", list(REFUSED))
def test_a_config_that_contradicts_itself_is_refused_at_load(detectors: RunningServer, model: str) -> None:
    with (
        grpcclient.InferenceServerClient(detectors.grpc_url) as client,
        pytest.raises(InferenceServerException, match=REFUSED[model][2]),
    ):
        client.load_model(model)
