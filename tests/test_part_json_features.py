# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""python_backends/json_features: schemas and records in this process, and the model on a real tritonserver."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_clients import Executions, at_once
from part_models import write_part
from part_server import Triton, four_together, part_module, strings, triton_with, unbatched
from trtkit.config import ModelConfig

schema_module = part_module("json_features", "trtkit_schema")
features_module = part_module("json_features", "trtkit_features")
records_module = part_module("json_features", "trtkit_records")

FP32 = {"features": np.dtype(np.float32)}


def features_of(path: Path, *entries: Any, types: Any = FP32, most_bytes: int = 1 << 20, **top: Any) -> Any:
    path.write_text(json.dumps({"features": list(entries), **top}))
    return features_module.Features(schema_module.read_schema(str(path)), types, most_bytes)


def converted(features: Any, *records: Any) -> dict[str, np.ndarray]:
    data = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    return features.tensors([features.read(each, row) for row, each in enumerate(data)])


def refused(features: Any, *records: Any) -> str:
    with pytest.raises(records_module.BadRecord) as error:
        converted(features, *records)
    return str(error.value)


# -- values


def test_a_matrix_in_the_order_of_the_schema(tmp_path: Path) -> None:
    features = features_of(
        tmp_path / "schema.json",
        {"name": "age", "type": "integer", "min": 0, "max": 150},
        {"name": "income", "type": "number", "path": "money.income", "default": None},
        {"name": "plan", "type": "category", "categories": ["free", "pro", 3], "encoding": "one_hot", "unknown": None},
        {"name": "member", "type": "boolean", "default": False},
        {"name": "first", "type": "number", "path": "last.0.x"},
        {"name": "city", "type": "category", "categories": ["A", "B"], "unknown": "B"},
    )
    record = {
        "age": 40,
        "money": {"income": 1.5, "x": 0},
        "plan": "pro",
        "member": True,
        "last": [{"x": -1}],
        "city": "B",
    }
    sparse = {"age": 41.0, "plan": "gold", "last": [{"x": 2}, 7], "city": "Ü", "money": None}
    other = [0, None, 3, None, 5, "A"]
    expected = [
        [40, 1.5, 0, 1, 0, 1, -1, 1],
        [41, math.nan, 0, 0, 0, 0, 2, 1],
        [0, math.nan, 0, 0, 1, 0, 5, 0],
    ]
    matrix = converted(features, record, sparse, other)["features"]
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.array(expected, np.float32))
    assert converted(features)["features"].shape == (0, 8)


def test_columns_of_their_own_types(tmp_path: Path) -> None:
    types = {"id": np.dtype(np.int64), "city": np.dtype(object), "flag": np.dtype(bool), "level": np.dtype(object)}
    features = features_of(
        tmp_path / "schema.json",
        {"name": "id", "type": "integer", "output": "id"},
        {"name": "city", "type": "string", "output": "city", "default": ""},
        {"name": "flag", "type": "boolean", "output": "flag"},
        {"name": "level", "type": "category", "categories": ["lo", 2], "output": "level"},
        types=types,
    )
    tensors = converted(
        features,
        {"id": 2**63 - 1, "city": "Köln\u0000", "flag": True, "level": 2},
        {"id": -(2**63), "flag": False, "level": "lo"},
    )
    assert tensors["id"].tolist() == [[2**63 - 1], [-(2**63)]]
    assert tensors["city"].tolist() == [["Köln\0".encode()], [b""]]
    assert tensors["flag"].tolist() == [[True], [False]]
    assert tensors["level"].tolist() == [[b"2"], [b"lo"]]


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("seconds", "2024-02-29T12:30:15.25Z", 1709209815.25),
        ("seconds", "2024-02-29 14:30:15.250+02:00", 1709209815.25),
        ("seconds", "1970-01-01", 0),
        ("seconds", -1.5, -1.5),
        ("days", "1970-01-02t06:00z", 1.25),
        ("year", "1969-12-31T23:59:59", 1969),
        ("month", "2024-02-29", 2),
        ("day", 1709209815, 29),
        ("weekday", "2024-02-29", 3),
        ("hour", "2024-02-29T23:30+01:00", 23),
    ],
)
def test_times(tmp_path: Path, unit: str, value: Any, expected: float) -> None:
    entry = {"name": "at", "type": "timestamp", "unit": unit}
    features = features_of(tmp_path / "schema.json", entry, types={"features": np.dtype(np.float64)})
    assert converted(features, [value])["features"].tolist() == [[expected]]


@given(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1)))
def test_any_time_is_what_python_makes_of_it(time: datetime.datetime) -> None:
    found = part_module("json_features", "trtkit_times").time_of(time.isoformat())
    assert found == time.replace(tzinfo=datetime.timezone.utc)


@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)), max_size=8))
def test_any_numbers_are_as_numpy_has_them_or_refused(tmp_path_factory: Any, values: list[float | None]) -> None:
    path = tmp_path_factory.getbasetemp() / "numbers.json"
    features = features_of(path, {"name": "x", "type": "number", "default": None})
    largest = np.finfo(np.float32).max.item()
    records = [{"x": value} for value in values]
    if all(value is None or abs(value) <= largest for value in values):
        expected = np.array([[math.nan if value is None else value] for value in values], np.float32).reshape(-1, 1)
        np.testing.assert_array_equal(converted(features, *records)["features"], expected)
    else:
        row = next(i for i, value in enumerate(values) if value is not None and abs(value) > largest)
        assert refused(features, *records).startswith(f"record {row}: 'x' is ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=3),
    max_leaves=12,
)


@given(st.one_of(JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=30)))
def test_any_bytes_are_converted_or_refused(tmp_path_factory: Any, data: bytes) -> None:
    features = features_of(
        tmp_path_factory.getbasetemp() / "any.json",
        {"name": "a", "type": "number", "default": None},
        {"name": "b", "type": "category", "categories": ["x", 1], "path": "b.0", "unknown": None, "default": 1},
        {"name": "c", "type": "timestamp", "path": "a.b", "unit": "hour", "default": 0},
    )
    try:
        matrix = converted(features, data)["features"]
    except records_module.BadRecord:
        return
    assert matrix.shape == (1, 3)
    assert not np.isinf(matrix).any()


# -- wrong records

WRONG_RECORDS = [
    (b"", "record 0 is not JSON: Expecting value: line 1 column 1 (char 0)"),
    (b'{"n": 1', "record 0 is not JSON: Expecting ',' delimiter"),
    (b'{"n": 1} x', "record 0 is not JSON: Extra data"),
    (b'{"n": "\xff"}', "record 0 is not UTF-8: invalid start byte at byte 7"),
    ('{"n": 1}'.encode("utf-16"), "record 0 is not UTF-8"),
    (b'{"n": NaN}', "record 0 is not JSON: NaN is no JSON number"),
    (b'{"n": -Infinity}', "record 0 is not JSON: -Infinity is no JSON number"),
    (b'{"n": 1, "n": 1}', 'record 0 is not JSON: the key "n" stands twice in one object'),
    (b'{"n": 1, "o": {"a": 1, "a": 2}}', 'the key "a" stands twice in one object'),
    (b'{"n": 1' + b"0" * 5000 + b"}", "record 0 is not JSON: Exceeds the limit"),
    (b'{"n": 1' + b"0" * 4000 + b"}", "record 0: 'n' is 1000000000"),
    (b'{"n": 1e999}', "record 0: 'n' is Infinity, expected a number from -3.4028234663852886e+38 to 3.4"),
    (b"[" * 100_000, "record 0 nests too deeply"),
    (b'{"n":' * 20_000, "record 0 nests too deeply"),
    (b'{"n": 1, "x": "' + b"y" * 200_000 + b'"}', "record 0 has 200017 bytes, expected at most 100000"),
    (b"3", "record 0 is 3, expected an object or an array"),
    (b"[1, 2]", "record 0 is an array of 2, expected one of 7, one per feature"),
    (b"{}", "record 0: 'n' is missing or null, expected a number"),
    (b'{"n": null}', "record 0: 'n' is missing or null, expected a number"),
    (b'{"n": "5"}', "record 0: 'n' is \"5\", expected a number"),
    (b'{"n": true}', "record 0: 'n' is true, expected a number"),
    (b'{"n": {"a": 1}}', "record 0: 'n' is an object, expected a number"),
    (b'{"n": [1, 2]}', "record 0: 'n' is an array of 2, expected a number"),
    (b'{"n": 1, "i": 1.5}', "record 0: 'i' is 1.5, expected a whole number from 0 to 9"),
    (b'{"n": 1, "i": 10}', "record 0: 'i' is 10, expected a number from 0 to 9"),
    (b'{"n": 1, "c": "C"}', 'record 0: \'c\' is "C", expected one of "A", "B", 1'),
    (b'{"n": 1, "c": true}', "record 0: 'c' is true, expected one of"),
    (b'{"n": 1, "c": 1.0}', "record 0: 'c' is 1.0, expected one of"),
    (b'{"n": 1, "b": 1}', "record 0: 'b' is 1, expected true or false"),
    (b'{"n": 1, "t": "2024-02-30"}', "record 0: 't' is \"2024-02-30\", expected a time as in"),
    (b'{"n": 1, "t": "20240228"}', "record 0: 't' is \"20240228\", expected a time as in"),
    (b'{"n": 1, "t": 1e300}', "record 0: 't' is 1e+300, expected a time as in"),
    (b'{"n": 1, "o": 5}', "record 0: 'o' is 5, expected an object"),
    (b'{"n": 1, "o": {"y": 5}}', "record 0: 'o.y' is 5, expected an array"),
    (b'{"n": 1, "o": {"y": [1, "a"]}}', "record 0: 'o.y.1' is \"a\", expected a number"),
    (b'{"n": 1, "s": "\\ud800"}', "record 0: 's' is \"\\ud800\", expected text without half a surrogate pair"),
    (b'{"n": 1, "k": 1}', 'record 0 has "k", which is not in the schema'),
    (b'{"n": 1, "o": {"z": 1}}', 'record 0 has "o.z", which is not in the schema'),
]
SEVEN = [
    {"name": "n", "type": "number"},
    {"name": "i", "type": "integer", "min": 0, "max": 9, "default": 0},
    {"name": "c", "type": "category", "categories": ["A", "B", 1], "default": "A"},
    {"name": "b", "type": "boolean", "default": False},
    {"name": "t", "type": "timestamp", "unit": "hour", "default": 0},
    {"name": "y", "type": "number", "path": "o.y.1", "default": 0},
    {"name": "s", "type": "string", "default": "", "output": "text"},
]


@pytest.mark.parametrize(("record", "words"), WRONG_RECORDS, ids=[words[:40] for _, words in WRONG_RECORDS])
def test_wrong_records(tmp_path: Path, record: bytes, words: str) -> None:
    types = FP32 | {"text": np.dtype(object)}
    features = features_of(tmp_path / "schema.json", *SEVEN, types=types, additional="error", most_bytes=100_000)
    assert words in refused(features, record)
    assert len(refused(features, record)) < 300
    assert converted(features, {"n": 1})["features"].tolist() == [[1, 0, 0, 0, 0, 0]]


def test_unknown_keys_inside_arrays(tmp_path: Path) -> None:
    entry = {"name": "x", "type": "number", "path": "last.1.x"}
    features = features_of(tmp_path / "schema.json", entry, additional="error")
    assert converted(features, {"last": [{"z": 0}, {"x": 1}]})["features"].tolist() == [[1]]
    assert 'record 0 has "last.1.z", which is not in the schema' in refused(features, {"last": [{}, {"x": 1, "z": 0}]})


def test_the_first_wrong_row_is_named(tmp_path: Path) -> None:
    features = features_of(tmp_path / "schema.json", {"name": "x", "type": "number", "max": 5, "default": None})
    assert refused(features, {}, {"x": 5}, {}, {"x": 6}, {"x": 7}).startswith("record 3: 'x' is 6, expected a number")


def test_what_is_outside_is_clipped(tmp_path: Path) -> None:
    entry = {"name": "x", "type": "number", "min": -1, "max": 1.5, "out_of_range": "clip"}
    features = features_of(tmp_path / "schema.json", entry)
    assert converted(features, [-5], [5], [10**400], [0])["features"].tolist() == [[-1], [1.5], [1.5], [0]]


# -- schemas

NUMBER = {"name": "x", "type": "number"}
WRONG_SCHEMAS = [
    (b"{", "Expecting property name"),
    (b"\xff", "invalid start byte"),
    (b"[]", "expected an object with 'features'"),
    ({}, "features is missing, expected an array"),
    ({"features": []}, "there is no feature"),
    ({"features": [NUMBER], "aditional": "error"}, "unknown key 'aditional'; did you mean 'additional'?"),
    ({"features": [NUMBER], "additional": "warn"}, 'additional is "warn", expected one of ignore, error'),
    ({"features": [5]}, "feature 0 is 5, expected an object"),
    ({"features": [NUMBER, NUMBER]}, "there are two features 'x'"),
    ({"features": [{"type": "number"}]}, "feature 0 (null): name is missing, expected text"),
    ({"features": [{"name": "x"}]}, 'feature 0 ("x"): type is missing, expected one of number, integer,'),
    ({"features": [NUMBER | {"type": "float"}]}, 'type is "float", expected one of number, integer,'),
    ({"features": [NUMBER | {"mim": 0}]}, "unknown key 'mim'; did you mean 'min'?"),
    ({"features": [NUMBER | {"unit": "hour"}]}, "unknown key 'unit'"),
    ({"features": [NUMBER | {"min": "0"}]}, 'min is "0", expected a number'),
    ({"features": [NUMBER | {"min": 1, "max": 0}]}, "min 1 is above max 0"),
    ({"features": [NUMBER | {"max": 5, "default": 6}]}, "feature 'x' (number): default is 6, expected a number"),
    ({"features": [NUMBER | {"path": ["a", 0]}]}, 'path is ["a", 0], expected text as in "a.b.0"'),
    ({"features": [NUMBER | {"output": "other"}]}, "feature 'x' goes to output 'other', which config.pbtxt lacks"),
    ({"features": [{"name": "s", "type": "string"}]}, "feature 's' (string) cannot go to output 'features'"),
    ({"features": [{"name": "t", "type": "timestamp"}]}, "in seconds needs a wider output than float32"),
    ({"features": [{"name": "c", "type": "category"}]}, "categories is missing, expected an array"),
    ({"features": [{"name": "c", "type": "category", "categories": [1.5]}]}, "categories is [1.5], expected an array"),
    ({"features": [{"name": "c", "type": "category", "categories": ["a", "a"]}]}, "a category stands twice"),
    (
        {"features": [{"name": "c", "type": "category", "categories": ["a"], "unknown": "b"}]},
        'unknown is "b", expected one of categories, or null',
    ),
]


@pytest.mark.parametrize(("schema", "words"), WRONG_SCHEMAS, ids=[words[:40] for _, words in WRONG_SCHEMAS])
def test_wrong_schemas(tmp_path: Path, schema: Any, words: str) -> None:
    path = tmp_path / "schema.json"
    path.write_bytes(schema if isinstance(schema, bytes) else json.dumps(schema).encode())
    with pytest.raises(schema_module.BadSchema) as error:
        features_module.Features(schema_module.read_schema(str(path)), FP32, 100)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("entry", "kind", "words"),
    [
        (NUMBER, np.int32, "cannot go to output 'features', which is int32; use type integer"),
        (
            {"name": "x", "type": "integer", "default": None},
            np.int32,
            "default is null, which output 'features' of int32",
        ),
        (
            {"name": "x", "type": "integer", "default": 300},
            np.int8,
            "default is 300, expected a number from -128 to 127",
        ),
        (
            {"name": "x", "type": "category", "categories": list(range(200))},
            np.int8,
            "feature 'x' (category): its 200 categories are more than int8 holds",
        ),
        ({"name": "x", "type": "boolean"}, object, "cannot go to output 'features', which is object"),
    ],
)
def test_outputs_that_cannot_hold_a_feature(tmp_path: Path, entry: Any, kind: Any, words: str) -> None:
    with pytest.raises(schema_module.BadSchema) as error:
        features_of(tmp_path / "schema.json", entry, types={"features": np.dtype(kind)})
    assert words in str(error.value)


# -- on a server

SIMPLE = json.dumps(
    {"features": [{"name": "a", "type": "number"}, {"name": "b", "type": "integer", "default": 7}]}
).encode()
COLUMNS = json.dumps({
    "features": [
        {"name": "age", "type": "integer", "output": "age"},
        {"name": "city", "type": "string", "output": "city", "path": "address.city"},
        {"name": "score", "type": "number", "output": "score", "default": None},
    ]
}).encode()  # fmt: skip


def columns(config: ModelConfig) -> None:
    del config.output[:]
    for name, data_type in (("age", "TYPE_INT64"), ("city", "TYPE_STRING"), ("score", "TYPE_FP64")):
        config.output.add(name=name, data_type=data_type, dims=[1])


def two_records(config: ModelConfig) -> None:
    config.input[0].dims[:] = [2]


def three_columns(config: ModelConfig) -> None:
    config.output[0].dims[:] = [3]


GOOD: dict[str, tuple[dict[str, str], bytes, Any]] = {
    "simple": ({}, SIMPLE, None),
    "together": ({"schema": "schema.json"}, SIMPLE, four_together),
    "columns": ({}, COLUMNS, columns),
    "unbatched": ({"max_record_bytes": "200000000"}, SIMPLE, unbatched),
}
BAD: dict[str, tuple[dict[str, str], bytes, Any, str]] = {
    "no_schema": ({"schema": "gone.json"}, SIMPLE, None, "there is no file 'gone.json' in "),
    "bad_schema": ({}, b'{"features": [{"name": "x"}]}', None, 'schema.json\': feature 0 ("x"): type is missing'),
    "no_bytes": (
        {"max_record_bytes": "1"},
        SIMPLE,
        None,
        "'max_record_bytes' is '1', expected a whole number, at least 2",
    ),
    "two_records": ({}, SIMPLE, two_records, "input 'record' has dims [2], expected [1]"),
    "three_columns": ({}, SIMPLE, three_columns, "output 'features' has dims [3], but the schema gives it 2 columns"),
}


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    repository = tmp_path_factory.mktemp("json_features")
    configs = GOOD | {name: bad[:3] for name, bad in BAD.items()}
    for name, (parameters, schema, edit) in configs.items():
        write_part(repository, name, "json_features", parameters, files={"schema.json": schema}, edit=edit)
    with triton_with(repository, list(GOOD)) as running:
        yield running


@pytest.mark.triton
def test_a_batch_of_records(triton: Triton) -> None:
    for connection in triton.connections:
        result = connection.infer(
            "simple", {"record": strings(['{"a": 1.5}'], ['{"b": 3, "a": -2, "c": {}}'], ["[0, null]"])}
        )
        assert result.as_numpy("features").tolist() == [[1.5, 7], [-2, 3], [0, 7]]
        assert result.as_numpy("features").dtype == np.float32


@pytest.mark.triton
def test_a_wrong_record_costs_its_own_request_only(triton: Triton) -> None:
    records = ['{"a": 1}', '{"a": NaN}', '{"a": "x"}', '{"a": 2}']
    executions = Executions(triton.grpc, "together")
    results = at_once(triton.grpc, "together", [{"record": strings([record])} for record in records])
    assert results[0].as_numpy("features").tolist() == [[1, 7]]
    assert results[3].as_numpy("features").tolist() == [[2, 7]]
    assert "model 'together': record 0 is not JSON: NaN is no JSON number" in str(results[1])
    assert "model 'together': record 0: 'a' is \"x\", expected a number" in str(results[2])
    assert executions.for_rows(2) == 1


@pytest.mark.triton
def test_columns_of_a_pipeline(triton: Triton) -> None:
    records = strings(
        ['{"age": 4, "address": {"city": "Köln"}, "score": 0.1}'], ['{"age": 5, "address": {"city": ""}}']
    )
    for connection in triton.connections:
        result = connection.infer("columns", {"record": records})
        assert result.as_numpy("age").tolist() == [[4], [5]]
        assert result.as_numpy("city").tolist() == [["Köln".encode()], [b""]]
        np.testing.assert_array_equal(result.as_numpy("score"), [[0.1], [math.nan]])
        only = connection.infer("columns", {"record": records}, outputs=["city"])
        assert only.as_numpy("age") is None


@pytest.mark.triton
def test_without_batching(triton: Triton) -> None:
    for connection in triton.connections:
        result = connection.infer("unbatched", {"record": strings(["[1, 2]"], ["[3, 4]"])})
        assert result.as_numpy("features").tolist() == [[1, 2], [3, 4]]
        empty = connection.infer("unbatched", {"record": np.empty((0, 1), np.object_)})
        assert empty.as_numpy("features").shape == (0, 2)


@pytest.mark.triton
@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"", "record 1 is not JSON: Expecting value"),
        (b"\xff\xfe", "record 1 is not UTF-8: invalid start byte at byte 0"),
        (b"[" * 500_000, "record 1 nests too deeply"),
        (b'{"a": 1' + b"0" * 10_000 + b"}", "record 1 is not JSON: Exceeds the limit"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', "record 1: 'a' is \"xxx"),
        (b" " * (1 << 20) + b"1", "record 1 has 1048577 bytes, expected at most 1048576"),
        (b"[1]", "record 1 is an array of 1, expected one of 2"),
    ],
    ids=["empty", "not_utf8", "deep", "digits", "long_text", "large", "short"],
)
def test_wrong_requests(triton: Triton, record: bytes, words: str) -> None:
    assert words in triton.error("simple", {"record": strings(["[1, 2]"], [record])})


@pytest.mark.triton
@pytest.mark.slow
def test_a_record_of_100_mb(triton: Triton) -> None:
    record = strings([b'{"a": 1, "x": "' + b"y" * 100_000_000 + b'"}'])
    assert "record 0 has 100000017 bytes, expected at most 1048576" in triton.error("simple", {"record": record})
    assert triton.http.infer("unbatched", {"record": record}).as_numpy("features").tolist() == [[1, 7]]


@pytest.mark.triton
@pytest.mark.parametrize("model", BAD)
def test_wrong_configs(triton: Triton, model: str) -> None:
    assert BAD[model][3] in triton.refusal(model)
