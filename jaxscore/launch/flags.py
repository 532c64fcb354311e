"""Flags: from a dataclass to the command line, with a message of one line for each invalid flag.

A field states its bounds in its type, such as `steps: Count = 1000`; `check` refuses values outside of them.
"""

import argparse
import contextlib
import dataclasses
import io
import math
import numbers
import operator
import os
import re
import shutil
import sys
from collections.abc import Iterable
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
from msgspec import Meta

Config = TypeVar("Config")

Count = Annotated[int, Meta(ge=1, lt=2**31)]
"""1, 2, ...; a counter on a device has 32 bits."""
Levels = Annotated[int, Meta(ge=2)]
"""A number of noise levels: at least sigma_1 and sigma_L."""
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
"""From 0 to below 1."""
Seed = Annotated[int, Meta(ge=0, lt=2**32)]
"""What jax.random.key tells apart."""


class FlagError(ValueError):
    """A flag has an invalid value; the message names the flag, the value and the remedy."""


def require(condition: Any, name: str, value: Any, remedy: str) -> None:
    """Raises FlagError, `--name value: remedy`, unless the condition holds.

    Args:
        condition: what must hold.
        name: name of the flag.
        value: value of the flag.
        remedy: what the value must be.
    """
    if not condition:
        flag = f"--{name.replace('_', '-')} {value}".rstrip()
        raise FlagError(f"{flag}: {remedy}")


def require_sigmas(sigma_min: float, sigma_max: float, *, prefix: str = "") -> None:
    """Raises FlagError unless sigma_min < sigma_max."""
    above = f"must exceed --{prefix}sigma-min {sigma_min}"
    require(sigma_max > sigma_min, f"{prefix}sigma-max", sigma_max, above)


def check(config: Any, prefix: str = "") -> None:
    """Raises FlagError if a number of the configuration, or of a nested one, is not finite or out of bounds.

    Args:
        config: a dataclass; the types of its fields have the bounds, also those of the classes it extends.
        prefix: what stands before its flags' names, such as "optimizer.".
    """
    kinds = [kind for kind in type(config).__mro__ if dataclasses.is_dataclass(kind)]
    hints = [get_type_hints(kind, include_extras=True) for kind in kinds]
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        _require_type(name, value, hints[0][field.name])
        if dataclasses.is_dataclass(value):
            check(value, f"{name}.")
        for place, number in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(number, numbers.Real):
                finite = isinstance(number, numbers.Integral) or math.isfinite(number)
                require(finite, name, number, "must be a finite number")
                for kind, bound in (pair for hint in hints for pair in _bounds(hint.get(field.name), place)):
                    inside = getattr(operator, kind)(number, bound)
                    limit = bound if isinstance(bound, int) else f"{bound:.4g}"
                    require(inside, name, number, f"must be {WORDS[kind]} {limit}")


TYPES = {int: "a whole number", float: "a number", bool: "True or False", type(None): "None"}

FITS = {
    int: lambda value: isinstance(value, numbers.Integral) and not isinstance(value, bool),
    float: lambda value: isinstance(value, numbers.Real) and not isinstance(value, bool),
    bool: lambda value: isinstance(value, bool),
    type(None): lambda value: value is None,
}


def _require_type(name: str, value: Any, hint: Any) -> None:
    """Raises FlagError if the type allows only numbers, True, False or None, and the value is another."""
    kinds = _kinds(hint)
    if all(kind in FITS for kind in kinds):
        words = " or ".join(TYPES[kind] for kind in kinds)
        require(any(FITS[kind](value) for kind in kinds), name, repr(value), f"must be {words}")


def _kinds(hint: Any) -> list[Any]:
    """Returns the types in a type, such as [int, NoneType] in Annotated[int, Meta(ge=1)] | None."""
    if get_origin(hint) is Annotated:
        return _kinds(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return [kind for part in get_args(hint) for kind in _kinds(part)]
    return [hint]


WORDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _bounds(hint: Any, place: int) -> list[tuple[str, int | float]]:
    """Returns the bounds in a type, such as [("ge", 1)] in Annotated[int, Meta(ge=1)].

    They may be inside an option, such as Count | None, or in a tuple, whose element at `place` is meant.
    """
    parts = get_args(hint)
    if get_origin(hint) is tuple and Ellipsis not in parts:
        parts = parts[place : place + 1]
    metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
    here = [(kind, getattr(meta, kind)) for meta in metas for kind in WORDS]
    inside = [pair for part in parts for pair in _bounds(part, place)]
    return inside + [(kind, bound) for kind, bound in here if bound is not None]


def choose(name: str, choices: Iterable[str], default: str, arguments: list[str] | None = None) -> str:
    """Value of one flag that is read before all others, because their defaults depend on it.

    Args:
        name: name of the flag.
        choices: valid values.
        default: value without the flag.
        arguments: command line; by default the arguments of the program.

    Raises:
        FlagError: if the value is none of the choices; the message names them.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(f"--{name}", dest="chosen", default=default, nargs="?", const="")
    chosen = parser.parse_known_args(arguments)[0].chosen
    wrong = "is not known" if chosen else "needs a value"
    require(chosen in choices, name, chosen, f"{wrong}; use {', '.join(choices)}")
    return chosen


def parse(defaults: Config | type[Config], arguments: list[str] | None = None) -> Config:
    """The configuration, from the flags and `defaults`; `--help` lists the flags and exits with status 0.

    If `defaults` is a class, its fields without a default are flags that must be given.

    Raises:
        FlagError: in one line, for a misspelt flag, a wrong type or an invalid value.
    """
    message = io.StringIO()
    if shutil.get_terminal_size().columns < 40:  # the parser's help needs some columns, or never ends
        os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stderr(message):
            given = {} if isinstance(defaults, type) else {"default": defaults}
            kind = defaults if isinstance(defaults, type) else type(defaults)
            return tyro.cli(kind, prog=_program(), args=arguments, registry=_READERS, **given)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
    raise FlagError(_one_line(message.getvalue()))


def _program() -> str | None:
    """Returns the command for the help, as `python -m` was given it; None for a script, which has a name."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec and f"python -m {spec.name.removesuffix('.__main__')}"


_READERS = tyro.constructors.ConstructorRegistry()


@_READERS.primitive_rule
def _integers(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
    if info.type is not int:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def whole(text: str) -> int:
    """Returns the integer that the text means exactly, such as 100000 for "1e5". Raises ValueError."""
    with contextlib.suppress(ArithmeticError):
        number = Decimal(text)
        # int() of a longer number, such as 1e999999, would take for ever.
        if number.is_finite() and number.adjusted() < 20 and number == int(number):
            return int(number)
    return int(text)


_NO_VALUE = {
    r"invalid literal for int\(\) with base 10: '(.*?)(?:'|;)": "an integer",  # Python cuts a long text
    r"Exceeds the limit()": "an integer of fewer digits",
    r"could not convert string to float: '(.*?)'": "a number",
    r"no type matching \{None\}\|INT could be instantiated from \['(.*?)'": "an integer, or None",
    r"no type matching \{None\}\|FLOAT could be instantiated from \['(.*?)'": "a number, or None",
}
"""What the parser says of a text that is no value of the flag, and what the flag takes."""


def _one_line(text: str) -> str:
    """The parser's boxed message as one line, without frame, title, wrapping and the pointer to --help."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    # If the output is not UTF-8, the frame consists of the title and lines of hyphens.
    text = re.sub(r"\A.*\n +-{5,} *\n|^ +-{5,} *$", "", text, flags=re.MULTILINE)
    body = [line for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    line = " ".join(re.sub(r"[│─]+", " ", " ".join(body)).split())
    line = re.split(r"\s*For full helptext| Got errors:", line)[0]
    line = re.sub(r"^Error parsing (\w+): --", "--", line)  # a dataclass refuses a value
    line = re.sub(r"^Missing from .*?: --", "missing: --", line)  # names the program
    line = line.replace(" Argument helptext:", "; expected").replace(" Perhaps you meant:", "; perhaps")
    for said, kind in _NO_VALUE.items():
        line = re.sub(rf"^Error parsing (--\S+): {said}.*$", rf"\1 \2: must be {kind}", line)
    return line or "the flags cannot be read; see --help"
