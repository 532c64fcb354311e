"""Flags: from a dataclass to the command line, and one clear line for each that is wrong."""

import contextlib
import dataclasses
import io
import math
import re
from typing import Any, TypeVar

import tyro

Config = TypeVar("Config")


class FlagError(ValueError):
    """A flag with a value that cannot be; the text names the flag, the value and the remedy."""


def require(condition: bool, name: str, value: Any, remedy: str) -> None:
    """Raises FlagError, `--name value: remedy`, unless the condition holds."""
    if not condition:
        raise FlagError(f"--{name.replace('_', '-')} {value}: {remedy}")


def require_sigmas(sigma_min: float, sigma_max: float, *, prefix: str = "") -> None:
    """Raises FlagError unless 0 < sigma_min < sigma_max."""
    require(sigma_min > 0, f"{prefix}sigma-min", sigma_min, "must be positive")
    above = f"must exceed --{prefix}sigma-min {sigma_min}"
    require(sigma_max > sigma_min, f"{prefix}sigma-max", sigma_max, above)


def require_finite(config: Any, prefix: str = "") -> None:
    """Raises FlagError if a number of the configuration, or of one nested in it, is infinite or NaN."""
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            require_finite(value, f"{name}.")
        elif isinstance(value, float):
            require(math.isfinite(value), name, value, "must be a finite number")


def parse(defaults: Config, arguments: list[str] | None = None) -> Config:
    """The configuration that the flags make of `defaults` (`--help` lists them, and exits with 0).

    Raises FlagError, in one line, for a misspelt flag, a wrong type or an impossible value.
    """
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            return tyro.cli(type(defaults), default=defaults, args=arguments)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
    raise FlagError(_one_line(message.getvalue()))


def _one_line(text: str) -> str:
    """The parser's boxed message as one line: no frame, no title, no wrapping, no pointer to --help."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    body = [line for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    line = " ".join(re.sub(r"[│─]+", " ", " ".join(body)).split())
    line = re.split(r"\s*For full helptext", line)[0]
    line = re.sub(r"^Error parsing (\w+): --", "--", line)  # a value that its dataclass refuses
    line = line.replace(" Argument helptext:", "; expected").replace(" Perhaps you meant:", "; perhaps")
    return line or "the flags cannot be read; see --help"
