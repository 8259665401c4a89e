# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The code of Python models, read and never run: what the server calls has to be there and to take what it gives."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from trtkit.errors import nearest
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.python_source import (
    CLASS,
    Function,
    PythonSource,
    decorators,
    place,
    returned,
    servers_python,
    takes,
    yields,
)
from trtkit.lint.rule import rule

_UTILS = "triton_python_backend_utils"
_ADDED_LATER = frozenset({
    "InferenceRequest", "InferenceResponse", "Logger", "MetricFamily", "PreferredMemory", "TRITONSERVER_MEMORY_CPU",
    "TRITONSERVER_MEMORY_GPU", "Tensor", "TritonError", "TritonModelException", "get_model_dir", "is_model_ready",
    "load_model", "unload_model",
})  # fmt: skip


def _at(model: Model, source: PythonSource, node: ast.AST, message: str) -> Found:
    return model.found_in(source.path, message, *place(node))


@rule("PYM001", "no-python", server=True)
def no_python(model: Model) -> Iterator[Found]:
    """The model file is no Python.

    It is read with the Python that runs trtkit, less what the server's older one does not know where the image is
    known. Where the two differ the message says so: a newer server may take what is no Python here.

    Wrong:
        def execute(self, requests)

    Right:
        def execute(self, requests):
    """
    for source in model.python:
        failure = source.failure
        if failure is not None and not model.is_pointer(source.path):
            own, servers = f"{sys.version_info.major}.{sys.version_info.minor}", servers_python(model)
            note = f" (read by Python {own}; the server has {servers})" if servers and servers != own else ""
            yield model.found_in(source.path, failure.message + note, failure.line, failure.column)


@rule("PYM002", "no-model-class", server=True)
def no_class(model: Model) -> Iterator[Found]:
    """The file has no class TritonPythonModel.

    The class may be imported or assigned. Functions alone, or a decorator, are not enough (python_backend: pb_stub.cc).

    Wrong:
        class TritonModel:
            def execute(self, requests): ...

    Right:
        class TritonPythonModel:
            def execute(self, requests): ...
    """
    for source in model.python:
        if source.has_no_class and not model.is_pointer(source.path):
            folder, _, name = source.path.rpartition("/")
            words = f"AttributeError: module '{folder}.{name.removesuffix('.py')}' has no attribute '{CLASS}'"
            other = f"; {nearest(CLASS, source.class_names)}" if source.class_names else ""
            yield model.found_in(source.path, words + other, 1, 1)


@rule("PYM003", "no-execute", Severity.WARNING)
def no_execute(model: Model) -> Iterator[Found]:
    """The class has no method execute.

    The model is loaded, and every request is answered with an error. Methods of a base class count (python_backend:
    pb_stub.cc).

    Wrong:
        class TritonPythonModel:
            def exec(self, requests): ...

    Right:
        class TritonPythonModel:
            def execute(self, requests): ...
    """
    for source in model.python:
        if source.is_whole and source.model_class is not None and "execute" not in source.methods:
            words = f"Python model {source.path} does not implement `execute` method"
            other = f"; {nearest('execute', source.methods)}" if source.methods else ""
            yield _at(model, source, source.model_class, words + other)


@rule("PYM004", "execute-cannot-be-called", Severity.WARNING)
def execute_arguments(model: Model) -> Iterator[Found]:
    """The method execute does not take the list of requests, and it alone; or finalize takes anything.

    The model is loaded; requests are answered with a TypeError, or its end is not told to it (python_backend:
    pb_stub.cc).

    Wrong:
        def execute(self): ...

    Right:
        def execute(self, requests): ...
    """
    for source in model.python:
        yield from _wrong_calls(model, source, "execute", 2, "(self, requests)")
        yield from _wrong_calls(model, source, "finalize", 1, "(self)")


@rule("PYM005", "initialize-cannot-be-called", server=True)
def initialize_arguments(model: Model) -> Iterator[Found]:
    """The method initialize does not take one dict of arguments, or ``__init__`` wants some.

    The backend makes the model without arguments and calls initialize with one dict of texts (python_backend:
    pb_stub.cc).

    Wrong:
        def initialize(self): ...

    Right:
        def initialize(self, args): ...
    """
    for source in model.python:
        yield from _wrong_calls(model, source, "__init__", 1, "(self)")
        yield from _wrong_calls(model, source, "initialize", 2, "(self, args)")


def _wrong_calls(model: Model, source: PythonSource, name: str, given: int, form: str) -> Iterator[Found]:
    method = source.methods.get(name)
    if method is None or method.decorator_list or takes(method, given):
        return
    taken = len(method.args.posonlyargs) + len(method.args.args)
    if taken < given:
        plural = "" if taken == 1 else "s"
        words = f"takes {taken} positional argument{plural} but {given} {'was' if given == 1 else 'were'} given"
    else:
        words = "is missing arguments that have no default"
    yield _at(model, source, method, f"TypeError: {CLASS}.{name}() {words}; write def {name}{form}")


@rule("PYM006", "auto-complete-cannot-be-called", server=True)
def auto_complete_arguments(model: Model) -> Iterator[Found]:
    """auto_complete_config is not a static method with one argument, or does not return the config.

    It is called on the class, before there is an object, and not at all by a server that completes no configs.

    Wrong:
        def auto_complete_config(self, config):
            return config

    Right:
        @staticmethod
        def auto_complete_config(config):
            return config
    """
    for source in () if model.server.strict else model.python:
        method = source.methods.get("auto_complete_config")
        kinds = decorators(method) if method is not None else []
        if method is None or kinds not in ([], ["staticmethod"], ["classmethod"]):
            continue
        given = 2 if kinds == ["classmethod"] else 1
        if not takes(method, given):
            words = f"TypeError: {CLASS}.auto_complete_config() is called with the config and nothing else"
            yield _at(model, source, method, f"{words}; write @staticmethod and def auto_complete_config(config)")
        elif isinstance(method, ast.AsyncFunctionDef) or yields(method) or not returned(method):
            words = f"auto_complete_config function in model '{model.name}' must return a valid pb.ModelConfig object"
            yield _at(model, source, method, f"{words}; end it with `return config`")


@rule("PYM007", "execute-answers-nothing", Severity.WARNING)
def answers_nothing(model: Model) -> Iterator[Found]:
    """The method execute returns no list of responses, and sends none itself.

    Each request is then answered with an error, or not at all. A decoupled model has to return None and send its
    responses with ``request.get_response_sender()``.

    Wrong:
        def execute(self, requests):
            for request in requests:
                yield answer(request)

    Right:
        def execute(self, requests):
            return [answer(request) for request in requests]
    """
    for source in model.python:
        method = source.methods.get("execute")
        if method is None or method.decorator_list or _only_raises(method):
            continue
        sends = source.mentions("get_response_sender")
        decides = source.mentions("set_model_transaction_policy")
        decoupled = model.config.model_transaction_policy.decoupled
        words = "" if decides else _wrong_answer(model, method, decoupled=decoupled, sends=sends)
        if words:
            yield _at(model, source, method, words)


def _wrong_answer(model: Model, method: Function, *, decoupled: bool, sends: bool) -> str:
    values = [node.value for node in returned(method)]
    if yields(method):
        return "Expected a list in the execute return, found type '<class 'generator'>'; return a list of responses"
    if decoupled:
        if any(isinstance(value, ast.List | ast.ListComp) and ast.unparse(value) != "[]" for value in values):
            words = f"Python model '{model.name}' is using the decoupled mode and the execute function must return None"
            return f"{words}; send the responses with request.get_response_sender()"
        return "" if sends else "the model is decoupled, and its code calls no get_response_sender()"
    if not values and not sends:
        return "execute returns no responses; return a list with one InferenceResponse for each request"
    wrong = [type(value).__name__.lower() for value in values if isinstance(value, ast.Tuple | ast.Dict | ast.Set)]
    return f"Expected a list in the execute return, found type '<class '{wrong[0]}'>'" if wrong else ""


def _only_raises(method: Function) -> bool:
    return any(isinstance(node, ast.Raise) for node in method.body)


@rule("PYM008", "file-name-without-py", server=True)
def file_name(model: Model) -> Iterator[Found]:
    """default_model_filename of a Python model does not end with .py.

    The backend imports the file as a module, by its name without that ending (python_backend: pb_stub.cc).

    Wrong:
        default_model_filename: "model.python"

    Right:
        default_model_filename: "model.py"
    """
    name = model.config.default_model_filename
    if model.config.backend == "python" and name and not name.endswith(".py"):
        words = f"Model name must end with '.py'. Model name is \"{name}\"."
        yield model.found(("default_model_filename",), f"{words} Give the file and this field another name")


@rule("PYM015", "imported-before-it-is-there", server=True)
def imported_too_early(model: Model) -> Iterator[Found]:
    """The file imports names from triton_python_backend_utils that the server puts there later.

    The module comes with functions for configs and types; the classes of tensors, requests and responses are added
    after the model file has been read (python_backend: pb_stub.cc, StubSetup; measured with 2.51). They are found
    under the module's name, or imported in a function.

    Wrong:
        from triton_python_backend_utils import InferenceResponse, Tensor

    Right:
        import triton_python_backend_utils as pb_utils
    """
    for source in model.python:
        for node in source.tree.body if source.tree else ():
            if isinstance(node, ast.ImportFrom) and node.module == _UTILS and not node.level:
                for name in (each for each in node.names if each.name in _ADDED_LATER):
                    words = f"ImportError: cannot import name '{name.name}' from '{_UTILS}'; it is added later"
                    yield _at(model, source, name, f"{words}: import the module, and write pb_utils.{name.name}")


RULES = (
    no_python, no_class, no_execute, execute_arguments, initialize_arguments, auto_complete_arguments,
    answers_nothing, file_name, imported_too_early,
)  # fmt: skip
