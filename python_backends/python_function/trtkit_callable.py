# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""A callable of the user's module: found, and held to what a model's inputs ask of it."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

_LONGEST_MESSAGE = 1000


class BadFunction(ValueError):  # noqa: N818 - Triton shows the class's name before the sentence
    """There is no such function, or it cannot serve this model."""


def load(function: str, folder: str, arguments: Mapping[str, Any], *, factory: bool = False) -> Callable[..., Any]:
    """Import the module and make the callable.

    Args:
        function: ``module:name``; names with dots on either side are followed.
        folder: where the module is looked for first.
        arguments: for a class or a factory: what it is called with, once; for another function: what each call gets.
        factory: call it once and take what it returns.

    Raises:
        BadFunction: there is no such module or name, importing or constructing raises, it is not callable, is a
            generator or asynchronous, or does not take these arguments.
    """
    module_name, colon, name = function.partition(":")
    if not (module_name and colon and name):
        raise BadFunction(f"the function is '{function}', expected 'module:name'")
    found = _attribute(_module(function, module_name, folder), module_name, name)
    if not callable(found):
        raise BadFunction(f"'{function}' is a {type(found).__name__}, expected something that can be called")
    if not (factory or inspect.isclass(found)):
        _refuse_lazy(function, found)
        return _bound(function, found, arguments)
    try:
        made = found(**arguments)
    except (Exception, SystemExit) as error:
        raise BadFunction(f"'{function}' with the arguments {dict(arguments)} raised {described(error)}") from error
    if not callable(made):
        raise BadFunction(f"'{function}' made a {type(made).__name__}, which cannot be called; give it a __call__")
    _refuse_lazy(function, made)
    return made


def check_signature(function: str, call: Callable[..., Any], inputs: Mapping[str, bool]) -> None:
    """Hold a callable to the inputs of a model, which it will get by name.

    Args:
        function: its name, for the message.
        call: from `load`.
        inputs: by name, whether a request may leave the input out.

    Raises:
        BadFunction: it lacks a parameter for an input, or needs one that is not there or may be left out.
    """
    parameters = _parameters(function, call)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    named = {
        name: each for name, each in parameters.items() if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
    has = ", ".join(named) or "none"
    for name in inputs:
        if isinstance(call, functools.partial) and name in call.keywords:
            raise BadFunction(f"'{name}' of '{function}' is both an argument and an input of the model")
        if name not in named and not takes_any:
            raise BadFunction(f"'{function}' has no parameter for input '{name}'; it has {has}")
    for name, each in parameters.items():
        if each.kind is each.POSITIONAL_ONLY:
            raise BadFunction(f"parameter '{name}' of '{function}' is positional-only, but inputs are given by name")
        if name not in named or each.default is not each.empty:
            continue
        if name not in inputs:
            given = ", ".join(inputs) or "none"
            raise BadFunction(f"parameter '{name}' of '{function}' is no input of the model, which has {given}")
        if inputs[name]:
            raise BadFunction(f"input '{name}' is optional, so parameter '{name}' of '{function}' needs a default")


def described(error: BaseException) -> str:
    """The class and the message of an exception in one line, whatever its message is."""
    text = " ".join("".join(traceback.format_exception_only(type(error), error)).split())
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"


def _module(function: str, name: str, folder: str) -> ModuleType:
    if folder not in sys.path[:1]:
        sys.path.insert(0, folder)
    top = name.partition(".")[0]
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            files = sorted(file for file in os.listdir(folder) if file.endswith(".py"))
            raise BadFunction(f"there is no module '{top}' for '{function}'; {folder} has {', '.join(files)}") from None
        raise BadFunction(f"'{function}' cannot be imported: {described(error)}") from error
    if not _is_from(sys.modules[top], folder) and any(
        os.path.exists(os.path.join(folder, entry)) for entry in (top, f"{top}.py")
    ):
        raise BadFunction(f"module '{top}' of {folder} is hidden by another of that name; rename it")
    return module


def _is_from(module: ModuleType, folder: str) -> bool:
    """Whether a module, or a package with or without ``__init__.py``, lies in the folder."""
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    return any(os.path.realpath(place).startswith(os.path.realpath(folder) + os.sep) for place in places)


def _attribute(module: ModuleType, module_name: str, name: str) -> Any:
    try:
        return functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(names) or 'none'}"
        raise BadFunction(f"module '{module_name}' has no '{name}'; {hint}") from None


def _bound(function: str, call: Callable[..., Any], arguments: Mapping[str, Any]) -> Callable[..., Any]:
    if not arguments:
        return call
    parameters = _parameters(function, call)
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for name in arguments:
        if name not in parameters and not takes_any:
            raise BadFunction(
                f"'{function}' has no parameter for the argument '{name}'; it has {', '.join(parameters)}"
            )
    return functools.partial(call, **arguments)


def _parameters(function: str, call: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(call).parameters
    except (TypeError, ValueError):
        raise BadFunction(
            f"Python cannot tell the parameters of '{function}'; wrap it in a function of yours"
        ) from None


def _refuse_lazy(function: str, call: Callable[..., Any]) -> None:
    """A call of these returns at once, with nothing computed."""
    inner = call if inspect.isroutine(call) or isinstance(call, functools.partial) else type(call).__call__
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise BadFunction(f"'{function}' is asynchronous; use a plain function, which may run an event loop itself")
    if inspect.isgeneratorfunction(inner):
        raise BadFunction(f"'{function}' is a generator; return the whole result at once")
