# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""What a row of the table in `perf_flags` is, and how words become the values of `Options`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from trtkit.errors import ProjectError

TEXT = click.STRING
FILE = click.Path(path_type=Path)
COUNT = click.IntRange(min=1)
COUNT_OR_0 = click.IntRange(min=0)
WHOLE = click.INT
ABOVE_0 = click.FloatRange(min=0, min_open=True)
NOT_BELOW_0 = click.FloatRange(min=0)
PEM = click.Choice(["PEM", "DER"])
TRACES = click.Choice(["OFF", "TIMESTAMPS", "TENSORS"])
_YES = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Flag:
    """One flag with all its names.

    Attributes:
        names: with spaces between; the first long one is the key.
        fields: the fields of `Options` that it changes, with spaces between; "" when it changes none.
        kind: of its value; None when it has none.
        help: one sentence or two.
        example: a value that is not the default, for the test.
        context: what else has to be given for it to make a difference, for the test.
        default: the value that is the same as leaving it out; shown in the help.
        pa: those of the names that perf_analyzer has.
        here: what does that here, for the table in docs/perf.md; "" when it is the same.
        convert: from the value to the field's.
        together: its fields follow from several flags, see `perf_options`.
        instead: why it changes nothing; said on standard error when it is given.
        multiple: may be given several times.
        counted: its value is how often it is given.
        metavar: what its value is called.
    """

    names: str
    fields: str
    kind: click.ParamType[Any] | None
    help: str
    example: str = ""
    context: str = ""
    default: str = ""
    pa: str = ""
    here: str = ""
    convert: Callable[[Any], Any] | None = None
    together: bool = False
    instead: str = ""
    multiple: bool = False
    counted: bool = False
    metavar: str | None = None

    @property
    def name(self) -> str:
        """The name it is known by."""
        names = self.names.split()
        return next((name for name in names if name.startswith("--")), names[0])

    @property
    def key(self) -> str:
        """The name of its value among those that click found."""
        return self.name.lstrip("-").replace("-", "_")

    def option(self) -> click.Option:
        """The flag as click has it."""
        names = [*self.names.split(), self.key]
        text = self.help + (f" Default: {self.default}." if self.default else "")
        text = f"Accepted, and changes nothing: {self.instead}." if self.instead else text
        if self.counted:
            return click.Option(names, count=True, help=text)
        if self.kind is None:
            return click.Option(names, is_flag=True, help=text)
        number = isinstance(self.kind, (click.types.IntParamType, click.types.FloatParamType))
        metavar = self.metavar or ("N" if number else None)
        return click.Option(names, type=self.kind, multiple=self.multiple, metavar=metavar, help=text)


def choice(*words: str) -> click.Choice[str]:
    """One of the words, in upper or lower case."""
    return click.Choice(words, case_sensitive=False)


def seconds(milliseconds: float) -> float:
    """Milliseconds as seconds."""
    return milliseconds / 1000


def fraction(percent: float) -> float:
    """Percent as a fraction."""
    return percent / 100


def none_is_empty(word: str) -> str:
    """The word, or "" for none."""
    return "" if word == "none" else word


def levels(what: str, *, open_end: bool = False) -> Callable[[str], Any]:
    """A converter to `Levels`, for ``concurrency`` or ``request rate``."""

    def convert(text: str) -> Any:
        from trtkit.perf.load_levels import parse_levels

        return parse_levels(text, what, whole=what == "concurrency", open_end=open_end)

    return convert


def numbers(text: str, words: str, example: str, least: int, most: int, separator: str = ":") -> list[float]:
    """``1:8:2`` as numbers.

    Args:
        text: what the user gave.
        words: what it is, for the sentence.
        example: what would be right, for the sentence.
        least: so many numbers have to be there.
        most: so many at most.
        separator: what stands between them.

    Raises:
        ProjectError: too few, too many, or no numbers, or one below 0.
    """
    parts = text.split(separator)
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not least <= len(values) <= most or not all(0 <= value < 1e18 for value in values):
        raise ProjectError(f"{words} '{text}' is not understood; give {example}")
    return values


def periodic(text: str) -> tuple[int, int, int]:
    """``START:END[:STEP]`` of --periodic-concurrency-range."""
    start, end, *rest = map(int, numbers(text, "concurrency range", "START:END:STEP", 2, 3))
    step = rest[0] if rest else 1
    if start < 1 or step < 1 or end < start or (end - start) % step:
        raise ProjectError(f"concurrency range '{text}' is impossible; whole STEPs above 0 must lead from START to END")
    return start, end, step


def schedule(text: str) -> tuple[float, ...]:
    """``0,0.5,2`` as seconds from the start."""
    times = numbers(text, "schedule", "seconds from the start with commas between, as in 0,0.5,2", 1, 1_000_000, ",")
    if times != sorted(times):
        raise ProjectError(f"schedule '{text[:40]}' goes back in time; give the seconds in their order")
    return tuple(times)


def sequence_ids(text: str) -> tuple[int, int | None]:
    """``START`` or ``START:END``; perf_analyzer takes 0 for 1, and so does this."""
    start, *rest = map(int, numbers(text, "range of sequence ids", "START or START:END, as in 1:100", 1, 2))
    return max(start, 1), rest[0] if rest else None


def tolerance(text: str) -> tuple[float, float]:
    """``RTOL`` or ``RTOL,ATOL``; one number is both."""
    relative, *rest = numbers(text, "tolerance", "RTOL or RTOL,ATOL, as in 1e-3,1e-5", 1, 2, ",")
    return relative, rest[0] if rest else relative


def header(text: str) -> tuple[str, str]:
    """``Name: value`` as both."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or any(ord(letter) < 32 or letter == "\x7f" for letter in text):
        raise ProjectError(f"header '{text}' is not understood; give NAME:VALUE, as in 'X-Team: search'")
    return name.strip(), value.strip()


def headers(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """All of them."""
    return tuple(map(header, texts))


def mix(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """``MODEL=WEIGHT``, each."""
    shares: dict[str, float] = {}
    for text in texts:
        name, equals, weight = text.rpartition("=")
        share = numbers(weight, "weight", "MODEL=WEIGHT, as in digits=3", 1, 1)[0] if equals else 0.0
        if not name or share <= 0 or name in shares:
            raise ProjectError(f"--mix {text}: give each model once as MODEL=WEIGHT, with a weight above 0")
        shares[name] = share
    return tuple(shares.items())


def composing(text: str) -> tuple[tuple[str, str], ...]:
    """``a:3,b`` as models with versions."""
    pairs = [word.strip().partition(":") for word in text.split(",")]
    if not all(name for name, _, _ in pairs):
        raise ProjectError(f"models '{text}' are not understood; give MODEL[:VERSION],…")
    return tuple((name, version) for name, _, version in pairs)


def request_parameters(texts: Sequence[str]) -> tuple[tuple[str, bool | int | float | str], ...]:
    """``NAME:VALUE:TYPE``, each, with the TYPEs bool, int, uint, double and string."""
    return tuple(map(_request_parameter, texts))


def _request_parameter(text: str) -> tuple[str, bool | int | float | str]:
    name, _, rest = text.partition(":")
    value, _, kind = rest.rpartition(":")
    makes: dict[str, Callable[[str], bool | int | float | str]] = {
        "bool": lambda word: _YES[word.lower()], "int": int, "uint": int, "double": float, "string": str,
    }  # fmt: skip
    try:
        if not name:
            raise KeyError
        return name, makes[kind.lower()](value)
    except (KeyError, ValueError) as exc:
        raise ProjectError(
            f"parameter '{text}' is not understood; give NAME:VALUE:TYPE with TYPE {', '.join(makes)}, "
            "as in max_tokens:256:int"
        ) from exc
