# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""python_backends/python_function: functions and their results in this process, and the part on a real server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_clients import Executions, at_once
from part_models import write_part
from part_server import Triton, four_together, part_module, strings, triton_with, unbatched
from trtkit.config import ModelConfig

callable_module = part_module("python_function", "trtkit_callable")
results_module = part_module("python_function", "trtkit_results")
Output = results_module.Output

# -- functions

MODULE = """
import asyncio
import functools

import numpy as np

number = 5


def add(x, y=1):
    return x + y


def anything(**inputs):
    return inputs


def positional(x, /):
    return x


async def later(x):
    return x


def stream(x):
    yield x


async def later_stream(x):
    yield x


def adder(by):
    return lambda x: x + by


def no_adder(by):
    raise KeyError("by what")


class Scale:
    def __init__(self, factor=2):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor

    def other(self, x):
        return x


class Later:
    async def __call__(self, x):
        return x


class NoCall:
    pass


made = Scale(7)
partly = functools.partial(add, y=3)
"""


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`load` with a folder that has the module above as `functions` and what a test writes there."""
    path, modules = list(sys.path), set(sys.modules)
    (tmp_path / "functions.py").write_text(MODULE)
    yield lambda name, factory=False, **arguments: callable_module.load(name, str(tmp_path), arguments, factory=factory)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def refusal(call: Callable[..., Any], *args: Any, **named: Any) -> str:
    with pytest.raises(callable_module.BadFunction) as error:
        call(*args, **named)
    return str(error.value)


def test_what_can_be_called(load: Callable[..., Any]) -> None:
    assert load("functions:add")(2) == 3
    assert load("functions:add", y=10)(x=2) == 12
    assert load("functions:Scale")(3) == 6
    assert load("functions:Scale", factor=5)(3) == 15
    assert load("functions:made")(3) == 21
    assert load("functions:made.other")(3) == 3
    assert load("functions:partly")(3) == 6
    assert load("functions:adder", factory=True, by=4)(3) == 7


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        ("functions", {}, "the function is 'functions', expected 'module:name'"),
        (":add", {}, "expected 'module:name'"),
        ("function:add", {}, "there is no module 'function' for 'function:add'; "),
        ("functions:ad", {}, "module 'functions' has no 'ad'; did you mean 'add'?"),
        ("functions:number", {}, "'functions:number' is a int, expected something that can be called"),
        ("functions:later", {}, "'functions:later' is asynchronous"),
        ("functions:later_stream", {}, "'functions:later_stream' is asynchronous"),
        ("functions:Later", {}, "'functions:Later' is asynchronous"),
        ("functions:stream", {}, "'functions:stream' is a generator"),
        ("functions:NoCall", {}, "made a NoCall, which cannot be called; give it a __call__"),
        ("functions:add", {"z": 1}, "'functions:add' has no parameter for the argument 'z'; it has x, y"),
        ("functions:Scale", {"z": 1}, "'functions:Scale' with the arguments {'z': 1} raised TypeError: "),
        ("functions:no_adder", {"factory": True, "by": 1}, "raised KeyError: 'by what'"),
    ],
)
def test_what_cannot(load: Callable[..., Any], function: str, arguments: dict[str, Any], words: str) -> None:
    assert words in refusal(load, function, **arguments)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import a_package_that_is_not_there", "cannot be imported: ModuleNotFoundError: No module named 'a_package"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
    ],
)
def test_modules_that_cannot_be_imported(load: Callable[..., Any], tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "broken_module.py").write_text(source)
    assert words in refusal(load, "broken_module:f")


def test_a_module_that_python_has_too(load: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def f(x): return x")
    message = refusal(load, "json:f")
    assert message == f"module 'json' of {tmp_path} is hidden by another of that name; rename it"


def test_a_package(load: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "our_package" / "inner").mkdir(parents=True)
    (tmp_path / "our_package" / "inner" / "code.py").write_text("from functions import add")
    assert load("our_package.inner.code:add")(1) == 2


@pytest.mark.parametrize(
    ("function", "inputs", "words"),
    [
        ("add", {"x": False, "z": False}, "'f' has no parameter for input 'z'; it has x, y"),
        ("add", {"y": False}, "parameter 'x' of 'f' is no input of the model, which has y"),
        ("add", {"x": True}, "input 'x' is optional, so parameter 'x' of 'f' needs a default"),
        ("positional", {"x": False}, "parameter 'x' of 'f' is positional-only"),
        ("Scale", {"y": False}, "'f' has no parameter for input 'y'; it has x"),
    ],
)
def test_parameters_that_are_not_the_inputs(
    load: Callable[..., Any], function: str, inputs: dict[str, bool], words: str
) -> None:
    call = load(f"functions:{function}")
    if function == "positional":
        assert words in refusal(callable_module.check_signature, "f", call, {})
    else:
        assert words in refusal(callable_module.check_signature, "f", call, inputs)


def test_parameters_that_are_the_inputs(load: Callable[..., Any]) -> None:
    for function, inputs in {
        "add": {"x": False}, "Scale": {"x": False}, "anything": {"a": False, "b-c": True}, "made": {"x": False},
    }.items():  # fmt: skip
        callable_module.check_signature("f", load(f"functions:{function}"), inputs)
    bound = load("functions:add", y=5)
    callable_module.check_signature("f", bound, {"x": False})
    message = refusal(callable_module.check_signature, "f", bound, {"x": False, "y": True})
    assert message == "'y' of 'f' is both an argument and an input of the model"
    assert "cannot tell the parameters of 'f'" in refusal(callable_module.check_signature, "f", max, {"x": False})


def test_an_exception_in_one_line() -> None:
    class Unprintable(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    assert callable_module.described(ValueError("a\nb")) == "ValueError: a b"
    assert "Unprintable" in callable_module.described(Unprintable())
    assert len(callable_module.described(ValueError("x" * 10**6))) < 1100


# -- results

FLOAT = Output("y", np.dtype(np.float32), (2, -1))
BYTE = Output("y", np.dtype(np.uint8), (-1,))
TEXT = Output("y", np.dtype(object), (-1,))
PAIR = [Output("a", np.dtype(np.int64), (1,)), Output("b", np.dtype(object), (1,))]


@pytest.mark.parametrize(
    ("returned", "output", "expected"),
    [
        (np.ones((2, 3), np.float32), FLOAT, [[1, 1, 1]] * 2),
        (np.ones((2, 1), np.float16), FLOAT, [[1]] * 2),
        (np.ones((2, 1), ">f4"), FLOAT, [[1]] * 2),
        ([[1, 2], [3.5, 4]], FLOAT, [[1, 2], [3.5, 4]]),
        (np.zeros((2, 0), np.float32), FLOAT, [[], []]),
        ([[], []], FLOAT, [[], []]),
        ({"y": [1, 255]}, BYTE, [1, 255]),
        (([1, 2],), BYTE, [1, 2]),
        ([True, False], BYTE, [1, 0]),
        (["ü", b"\xff\0", "a\0"], TEXT, [b"\xc3\xbc", b"\xff\0", b"a\0"]),
        (np.array(["ü", "ab"]), TEXT, [b"\xc3\xbc", b"ab"]),
        (np.array([b"a", b"bc"]), TEXT, [b"a", b"bc"]),
        (np.array([], object), TEXT, []),
    ],
)
def test_results_that_fit(returned: Any, output: Any, expected: Any) -> None:
    result = results_module.named_results(returned, [output])["y"]
    assert result.tolist() == expected
    assert result.dtype == output.kind


@pytest.mark.parametrize(
    ("returned", "outputs", "words"),
    [
        (None, [FLOAT], "it returned None, expected y"),
        (np.ones((2, 1)), [FLOAT], "output 'y' is float64, expected float32; convert it in the function or change"),
        (np.ones((3, 1), np.float32), [FLOAT], "output 'y' has shape [3, 1], expected [2, -1]"),
        (np.ones(2, np.float32), [FLOAT], "output 'y' has shape [2], expected [2, -1]"),
        (3, [FLOAT], "output 'y' has shape [], expected [2, -1]"),
        ([[1], [2, 3]], [FLOAT], "output 'y' cannot be an array: "),
        ([["a"], ["b"]], [FLOAT], "output 'y' is <U1, expected float32"),
        ((each for each in [1]), [FLOAT], "output 'y' is of generator, expected float32"),
        ([256], [BYTE], "output 'y' is int64, expected uint8"),
        ([1.0], [BYTE], "output 'y' is float64, expected uint8"),
        ([10**30], [BYTE], "output 'y' is of int, expected uint8"),
        ([1], [TEXT], "output 'y' has a int, expected str or bytes"),
        ([["a"], ["b", "c"]], [TEXT], "output 'y' has a list, expected str or bytes"),
        (["\ud800"], [TEXT], "output 'y' has text that UTF-8 cannot hold"),
        ({"x": 1}, [FLOAT], "it returned a dictionary with x, expected y"),
        ({"a": [1]}, PAIR, "it returned a dictionary with a, expected a, b"),
        (([1],), PAIR, "it returned 1 values, expected 2: a, b"),
        ([[1], ["x"]], PAIR, "it returned one list, expected a dictionary or a tuple of a, b"),
    ],
)
def test_results_that_do_not(returned: Any, outputs: list[Any], words: str) -> None:
    with pytest.raises(results_module.BadResult) as error:
        results_module.named_results(returned, outputs)
    assert words in str(error.value)


def test_several_results() -> None:
    for returned in (([1], ["x"]), {"b": ["x"], "a": [1]}):
        results = results_module.named_results(returned, PAIR)
        assert {name: array.tolist() for name, array in results.items()} == {"a": [1], "b": [b"x"]}


# -- on a server

SERVED = """
import sys
from pathlib import Path

import numpy as np

calls = 0


def affine(x, offset=None):
    global calls
    calls += 1
    if np.isnan(x).any():
        raise ValueError("x has NaN")
    if (x == 13).any():
        raise KeyError("thirteen")
    if (x == 14).any():
        sys.exit("fourteen")
    if (x == 15).any():
        return x[:, :1].repeat(7, 0)
    if (x == 16).any():
        return x[:0]
    if (x == 17).any():
        raise RuntimeError("y" * 5_000_000)
    if (x == 18).any():
        return affine(x)
    x *= 2
    return x if offset is None else x + offset


def count_calls(x):
    affine(x)
    return np.full(x.shape, calls, np.float32)


def greet(name):
    assert all(type(each) is str for each in name.flat)
    return np.array([[f"Hallo {each}"] for each in name[:, 0]]), [[len(each)] for each in name[:, 0]]


def sizes(name):
    assert all(type(each) is bytes for each in name.flat)
    return {"length": [[len(each)] for each in name[:, 0]], "text": name}


class Lookup:
    def __init__(self, file):
        self.words = (Path(__file__).parent / file).read_text().split()

    def __call__(self, x):
        return [self.words[int(each)] for each in x]
"""


def with_offset(config: ModelConfig) -> None:
    config.input.add(name="offset", data_type="TYPE_FP32", dims=[-1], optional=True)


def affine_together(config: ModelConfig) -> None:
    with_offset(config)
    four_together(config)


def named(config: ModelConfig) -> None:
    config.input[0].name, config.input[0].data_type = "name", "TYPE_STRING"
    config.input[0].dims[:] = [1]
    config.output[0].name, config.output[0].data_type = "text", "TYPE_STRING"
    config.output.add(name="length", data_type="TYPE_INT32", dims=[1])


def lookup(config: ModelConfig) -> None:
    config.max_batch_size = 0
    config.ClearField("dynamic_batching")
    config.output[0].data_type = "TYPE_STRING"


def decoupled(config: ModelConfig) -> None:
    config.model_transaction_policy.decoupled = True


def renamed(config: ModelConfig) -> None:
    config.input[0].name = "pixels"


GOOD: dict[str, tuple[dict[str, str], Any]] = {
    "affine": ({"function": "served:affine"}, with_offset),
    "whole": ({"function": "served:affine", "batch": "whole"}, affine_together),
    "whole_count": ({"function": "served:count_calls", "batch": "whole"}, four_together),
    "greet": ({"function": "served:greet", "strings": "str"}, named),
    "sizes": ({"function": "served:sizes"}, named),
    "lookup": ({"function": "served:Lookup", "arguments": '{"file": "words.txt"}'}, lookup),
}
BAD: dict[str, tuple[dict[str, str], Any, str]] = {
    "no_module": ({}, None, "model 'no_module': there is no module 'function' for 'function:call'"),
    "no_file": ({"function": "served:Lookup", "arguments": '{"file": "gone"}'}, None, "raised FileNotFoundError: "),
    "no_json": (
        {"function": "served:affine", "arguments": "[1]"}, None, "'arguments' is '[1]', expected an object of JSON",
    ),
    "whole_unbatched": (
        {"function": "served:affine", "batch": "whole"}, unbatched, "parameter 'batch' is 'whole', expected",
    ),
    "decoupled": ({"function": "served:affine"}, decoupled, "it is decoupled, but a function answers each request"),
    "renamed": ({"function": "served:affine"}, renamed, "'served:affine' has no parameter for input 'pixels'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    repository = tmp_path_factory.mktemp("python_function")
    configs = GOOD | {name: bad[:2] for name, bad in BAD.items()}
    for name, (parameters, edit) in configs.items():
        files = {"served.py": SERVED.encode(), "words.txt": b"null eins zwei"}
        write_part(repository, name, "python_function", parameters, files=files, edit=edit)
    with triton_with(repository, list(GOOD)) as running:
        yield running


def x_of(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array([values], np.float32)}


@pytest.mark.triton
def test_inputs_by_name_and_optional_ones(triton: Triton) -> None:
    for connection in triton.connections:
        assert connection.infer("affine", x_of(1, 2)).as_numpy("y").tolist() == [[2, 4]]
        both = x_of(1, 2) | {"offset": np.array([[0.5]], np.float32)}
        assert connection.infer("affine", both).as_numpy("y").tolist() == [[2.5, 4.5]]
        assert connection.infer("affine", {"x": np.zeros((2, 0), np.float32)}).as_numpy("y").shape == (2, 0)


@pytest.mark.triton
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "model 'affine': 'served:affine' raised ValueError: x has NaN"),
        (13, "model 'affine': FunctionError: 'served:affine' raised KeyError: 'thirteen'"),
        (14, "'served:affine' raised SystemExit: fourteen"),
        (15, "'served:affine': output 'y' has shape [7, 1], expected [1, -1]"),
        (16, "'served:affine': output 'y' has shape [0, 1], expected [1, -1]"),
        (17, "'served:affine' raised RuntimeError: yyyy"),
        (18, "'served:affine' raised RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_what_a_function_raises(triton: Triton, value: float, words: str) -> None:
    message = triton.error("affine", x_of(value))
    assert words in message
    assert len(message) < 1200
    assert triton.grpc.infer("affine", x_of(1)).as_numpy("y").tolist() == [[2]]


@pytest.mark.triton
def test_the_traceback_is_in_the_log(triton: Triton) -> None:
    triton.error("affine", x_of(13))
    log = triton.server.log.read_text(errors="replace")
    assert 'raise KeyError(\\"thirteen\\")' in log  # the server escapes what it logs
    assert "served.py" in log


@pytest.mark.triton
def test_a_whole_batch_in_one_call_and_a_wrong_request_alone(triton: Triton) -> None:
    feeds = [x_of(1), x_of(13), x_of(3), x_of(np.nan)]
    executions = Executions(triton.grpc, "whole")
    results = at_once(triton.grpc, "whole", feeds)
    assert results[0].as_numpy("y").tolist() == [[2]]
    assert results[2].as_numpy("y").tolist() == [[6]]
    assert "raised KeyError: 'thirteen'" in str(results[1])
    assert "raised ValueError: x has NaN" in str(results[3])
    assert executions.for_rows(2) == 1


@pytest.mark.triton
def test_a_whole_batch_is_one_call(triton: Triton) -> None:
    counts = [result.as_numpy("y").tolist() for result in at_once(triton.grpc, "whole_count", [x_of(1)] * 4)]
    again = [result.as_numpy("y").tolist() for result in at_once(triton.grpc, "whole_count", [x_of(1)] * 4)]
    assert counts == [[[1]]] * 4
    assert again == [[[2]]] * 4


@pytest.mark.triton
def test_strings(triton: Triton) -> None:
    for connection in triton.connections:
        result = connection.infer("greet", {"name": strings(["Jürgen"], [""])})
        assert result.as_numpy("text").tolist() == [["Hallo Jürgen".encode()], [b"Hallo "]]
        assert result.as_numpy("length").tolist() == [[6], [0]]
        assert result.as_numpy("length").dtype == np.int32
        raw = connection.infer("sizes", {"name": strings([b"\xff\0\0"])})
        assert raw.as_numpy("text").tolist() == [[b"\xff\0\0"]]
        assert raw.as_numpy("length").tolist() == [[3]]
        only = connection.infer("sizes", {"name": strings(["a"])}, outputs=["length"])
        assert only.as_numpy("text") is None
    assert "element 1 of input 'name' is not UTF-8" in triton.error("greet", {"name": strings(["a"], [b"\xff"])})


@pytest.mark.triton
def test_a_class_with_its_file(triton: Triton) -> None:
    for connection in triton.connections:
        result = connection.infer("lookup", {"x": np.array([2, 0], np.float32)})
        assert result.as_numpy("y").tolist() == [b"zwei", b"null"]
    assert "raised IndexError: list index out of range" in triton.error("lookup", {"x": np.array([9], np.float32)})


@pytest.mark.triton
@pytest.mark.parametrize("model", BAD)
def test_wrong_configs(triton: Triton, model: str) -> None:
    assert BAD[model][2] in triton.refusal(model)
