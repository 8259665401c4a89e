# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of tensors and models in the code of Python models, against the config and the repository."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from trtkit.errors import nearest
from trtkit.lint.finding import Severity
from trtkit.lint.model import Found, Model
from trtkit.lint.python_source import PythonSource, Use, argument
from trtkit.lint.rule import rule


def _inputs(model: Model) -> set[str]:
    """The inputs that a request has: those of the config, and what the scheduler and the batcher add."""
    config = model.config
    names = {each.name for each in config.input}
    names |= {each.name for each in config.sequence_batching.control_input}
    names |= {each.input_name for each in config.sequence_batching.state}
    return names | {name for each in config.batch_input for name in each.target_name}


def _outputs(model: Model) -> set[str]:
    config = model.config
    names = {each.name for each in config.output} | {each.output_name for each in config.sequence_batching.state}
    return names | {name for each in config.batch_output for name in each.target_name}


def _completes_itself(model: Model, source: PythonSource) -> bool:
    """Whether the code may add tensors to the config."""
    return not model.server.strict and source.mentions("auto_complete_config")


def _found(model: Model, source: PythonSource, use: Use, words: str) -> Found:
    return model.found_in(source.path, words, *use.place)


@rule("PYM009", "input-not-in-the-config", Severity.WARNING, depends_on_server=True)
def unknown_input(model: Model) -> Iterator[Found]:
    """The code asks a request for an input that the config does not have.

    It gets None, and the request ends with an AttributeError. Inputs of the sequence batcher and of batch_input
    count; code that completes its own config is not looked at.

    Wrong:
        pb_utils.get_input_tensor_by_name(request, "TEXT")    # and input { name: "text" ... }

    Right:
        pb_utils.get_input_tensor_by_name(request, "text")
    """
    known = _inputs(model)
    for source in model.python if known else ():
        if not _completes_itself(model, source):
            for use in source.named("get_input_tensor_by_name", 1, "name"):
                if use.name not in known:
                    words = f"the config has no input '{use.name}'; {nearest(use.name, known)}"
                    yield _found(model, source, use, words)


@rule("PYM010", "output-not-in-the-config", Severity.WARNING, depends_on_server=True)
def unknown_output(model: Model) -> Iterator[Found]:
    """The code makes an output that the config does not have, so it is never sent.

    Code that calls other models makes their inputs by the same class, and is not looked at; nor are outputs whose name
    the code compares with those that are asked for.

    Wrong:
        pb_utils.Tensor("SCORES", scores)    # and output { name: "scores" ... }

    Right:
        pb_utils.Tensor("scores", scores)
    """
    known = _outputs(model)
    for source in model.python if known else ():
        if not _completes_itself(model, source) and not source.mentions("InferenceRequest"):
            asked_for = set(_compared(source))
            for use in _made(source):
                if use.name not in known and use.name not in asked_for:
                    words = f"the config has no output '{use.name}'; {nearest(use.name, known)}"
                    yield _found(model, source, use, words)


def _compared(source: PythonSource) -> Iterator[str]:
    """Texts on the left of a comparison, as in ``"scores" in request.requested_output_names()``."""
    for node in ast.walk(source.tree) if source.tree else ():
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant) and isinstance(node.left.value, str):
            yield node.left.value


def _made(source: PythonSource) -> Iterator[Use]:
    """Tensors of the backend that are made under a name; classes of other libraries have other arguments."""
    for use in source.named("Tensor", 0, "name"):
        if len(use.call.args) + len(use.call.keywords) == 2 and _is_of_backend(use.call.func):
            yield use
    yield from source.named("from_dlpack", 0, "name")


def _is_of_backend(function: ast.expr) -> bool:
    return not isinstance(function, ast.Attribute) or (
        isinstance(function.value, ast.Name) and function.value.id.startswith(("pb", "triton"))
    )


@rule("PYM011", "config-lookup-fails", server=True, depends_on_server=True)
def lookup_fails(model: Model) -> Iterator[Found]:
    """While it is loaded, the code looks up a tensor in the config that is not there, and uses what it gets.

    ``get_input_config_by_name`` and ``get_output_config_by_name`` give None then, and ``None["data_type"]`` ends the
    load. Only lookups that surely run are looked at: those that stand alone in initialize.

    Wrong:
        pb_utils.get_output_config_by_name(config, "SCORES")["data_type"]    # and output { name: "scores" ... }

    Right:
        pb_utils.get_output_config_by_name(config, "scores")["data_type"]
    """
    for source in model.python:
        if not _completes_itself(model, source):
            for use, known in _lookups(model, source):
                if use.name not in known and _is_used(source, use.call):
                    words = f"TypeError: 'NoneType' object is not subscriptable: the config has no '{use.name}'"
                    yield _found(model, source, use, f"{words}; {nearest(use.name, known)}")


@rule("PYM012", "config-lookup-finds-nothing", Severity.WARNING, depends_on_server=True)
def lookup_finds_nothing(model: Model) -> Iterator[Found]:
    """The code looks up a tensor in the config that is not there, and gets None.

    See config-lookup-fails for lookups that surely end the load.

    Wrong:
        config = pb_utils.get_input_config_by_name(model_config, "TEXT")    # and input { name: "text" ... }

    Right:
        config = pb_utils.get_input_config_by_name(model_config, "text")
    """
    for source in model.python:
        if not _completes_itself(model, source):
            for use, known in _lookups(model, source):
                if use.name not in known and not _is_used(source, use.call):
                    words = f"the config has no '{use.name}', so this is None; {nearest(use.name, known)}"
                    yield _found(model, source, use, words)


def _lookups(model: Model, source: PythonSource) -> Iterator[tuple[Use, set[str]]]:
    """Lookups in the config, each with the names that it finds: those of inputs, or of outputs."""
    tensors = {"input": model.config.input, "output": model.config.output}
    for kind, each in tensors.items():
        for use in source.named(f"get_{kind}_config_by_name", 1, "name"):
            yield use, {tensor.name for tensor in each}


def _is_used(source: PythonSource, call: ast.Call) -> bool:
    """Whether initialize surely runs ``call`` and takes an item of what it gives."""
    method = source.methods.get("initialize")
    for statement in method.body if method is not None and not method.decorator_list else ():
        if isinstance(statement, ast.Return | ast.Raise):
            return False
        if isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr) and any(
            isinstance(node, ast.Subscript) and node.value is call for node in _run(statement)
        ):
            return True
        if isinstance(statement, ast.Assign) and statement.value is call:
            return _is_subscripted(method, statement)  # type: ignore[arg-type]
    return False


def _is_subscripted(method: ast.FunctionDef, assigned: ast.Assign) -> bool:
    """Whether one of the next plain statements takes an item of the name that was assigned."""
    target = assigned.targets[0]
    if len(assigned.targets) > 1 or not isinstance(target, ast.Name):
        return False
    for statement in method.body[method.body.index(assigned) + 1 :]:
        if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Expr):
            return False
        nodes = list(_run(statement))
        uses = {id(node) for node in nodes if isinstance(node, ast.Name) and node.id == target.id}
        if uses:
            return any(isinstance(node, ast.Subscript) and id(node.value) in uses for node in nodes)
    return False


def _run(statement: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement that are always run: not those of a condition's sides or of a function inside."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.IfExp | ast.BoolOp | ast.Lambda | ast.ListComp | ast.DictComp | ast.GeneratorExp):
            waiting.extend(ast.iter_child_nodes(node))


@rule("PYM013", "output-never-made", Severity.ADVICE)
def output_never_made(model: Model) -> Iterator[Found]:
    """The code makes all its outputs under names that can be read, and one of the config is not among them.

    The server tells clients of an output that no response will hold.

    Wrong:
        output { name: "scores" data_type: TYPE_FP32 dims: [ 10 ] }    # Tensor("scores", x)
        output { name: "labels" data_type: TYPE_STRING dims: [ 1 ] }   # and no Tensor("labels", y)

    Right:
        output { name: "scores" data_type: TYPE_FP32 dims: [ 10 ] }
    """
    for source in model.python:
        calls = [call for call in source.uses("Tensor") if _is_of_backend(call.func)]
        made = [argument(call, 0, "name") for call in calls]
        texts = {node.value for node in made if isinstance(node, ast.Constant)}
        if not calls or any(not isinstance(node, ast.Constant) for node in made) or source.mentions("from_dlpack"):
            continue
        for index, output in enumerate(model.written.output):
            if output.name not in texts and not source.mentions(output.name):
                words = f"the code makes no output '{output.name}'; {nearest(output.name, map(str, texts))}"
                yield model.found(("output", index, "name"), words)


@rule("PYM014", "called-model-not-there", Severity.WARNING)
def called_model_missing(model: Model) -> Iterator[Found]:
    """The code calls a model that is not in the repository.

    A server may serve several repositories, and models may be loaded from elsewhere; else the call ends with
    "Request for unknown model".

    Wrong:
        pb_utils.InferenceRequest(model_name="tokeniser", ...)    # and model_repository/tokenizer

    Right:
        pb_utils.InferenceRequest(model_name="tokenizer", ...)
    """
    for source in model.python:
        for use in source.named("InferenceRequest", 99, "model_name"):
            if use.name not in model.repository.models:
                words = f"Request for unknown model: '{use.name}' is not found"
                yield _found(model, source, use, f"{words}; {nearest(use.name, model.repository.models)}")


RULES = (
    unknown_input, unknown_output, lookup_fails, lookup_finds_nothing, output_never_made, called_model_missing,
)  # fmt: skip
