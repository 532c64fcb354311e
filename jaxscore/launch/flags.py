"""Flags: from a dataclass to the command line, with a message of one line for each invalid flag."""

import argparse
import contextlib
import dataclasses
import io
import math
import re
from collections.abc import Iterable
from typing import Any, TypeVar

import tyro

Config = TypeVar("Config")


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
    """Raises FlagError unless 0 < sigma_min < sigma_max."""
    require(sigma_min > 0, f"{prefix}sigma-min", sigma_min, "must be positive")
    above = f"must exceed --{prefix}sigma-min {sigma_min}"
    require(sigma_max > sigma_min, f"{prefix}sigma-max", sigma_max, above)


def require_finite(config: Any, prefix: str = "") -> None:
    """Raises FlagError if a number of the configuration, or of a nested one, is infinite or nan."""
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            require_finite(value, f"{name}.")
        elif isinstance(value, float):
            require(math.isfinite(value), name, value, "must be a finite number")


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
    try:
        with contextlib.redirect_stderr(message):
            if isinstance(defaults, type):
                return tyro.cli(defaults, args=arguments)
            return tyro.cli(type(defaults), default=defaults, args=arguments)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
    raise FlagError(_one_line(message.getvalue()))


def _one_line(text: str) -> str:
    """The parser's boxed message as one line, without frame, title, wrapping and the pointer to --help."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    # If the output is not UTF-8, the frame consists of the title and lines of hyphens.
    text = re.sub(r"\A.*\n +-{5,} *\n|^ +-{5,} *$", "", text, flags=re.MULTILINE)
    body = [line for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    line = " ".join(re.sub(r"[│─]+", " ", " ".join(body)).split())
    line = re.split(r"\s*For full helptext", line)[0]
    line = re.sub(r"^Error parsing (\w+): --", "--", line)  # a dataclass refuses a value
    line = re.sub(r"^Missing from .*?: --", "missing: --", line)  # names the program
    line = line.replace(" Argument helptext:", "; expected").replace(" Perhaps you meant:", "; perhaps")
    return line or "the flags cannot be read; see --help"
