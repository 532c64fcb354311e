"""Lets `bench` run where only jax, flax, optax and numpy are installed.

Importing this module puts stand-ins in the place of packages that are absent: they can be imported, named
in annotations and inherited from, and raise ImportError when they are used. `parse` is `flags.parse`, or a
plain parser of the same flags without tyro.
"""

import argparse
import dataclasses
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any, TypeVar

Config = TypeVar("Config")

OPTIONAL = ("jaxtyping", "tyro", "rich", "orbax", "matplotlib", "grain", "PIL", "sklearn")
"""Packages that the modules which `bench` imports name at their beginning, or might."""


class _Absent(type):
    """The type of what is imported from an absent package: a class that cannot be called."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent(f"{cls.__name__}.{name}", (), {})

    def __getitem__(cls, item: Any) -> Any:
        return item[0] if isinstance(item, tuple) else item  # jaxtyping: Float[Array, "b"] is an Array

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        if type(cls) is _Absent and cls.__module__ == __name__:
            raise ImportError(f"{cls.__name__} is not installed")
        return super().__call__(*arguments, **options)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the absent packages, and anything in them."""

    def __init__(self, names: set[str]):
        self.names = names

    def find_spec(self, fullname, path=None, target=None):
        if fullname.split(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: _member(spec.name, name)
        return module

    def exec_module(self, module):
        pass


def _member(package: str, name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Absent(f"{package}.{name}", (), {})


def installed(name: str) -> bool:
    """Whether a package is really there."""
    return name not in ABSENT and _found(name)


def _found(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


ABSENT = {name for name in OPTIONAL if not _found(name)}
"""Those of the packages that have stand-ins."""

if ABSENT - {"grain", "PIL", "sklearn"}:  # these three are imported where they are used, and asked for there
    sys.meta_path.insert(0, _Finder(ABSENT - {"grain", "PIL", "sklearn"}))


def parse(defaults: Config, arguments: list[str] | None = None) -> Config:
    """The configuration that the flags make of `defaults`. Raises FlagError in one line."""
    from experiments import flags

    if installed("tyro"):
        return flags.parse(defaults, arguments)
    parser = argparse.ArgumentParser(description=type(defaults).__doc__, allow_abbrev=False)

    def refuse(message: str):
        raise flags.FlagError(message)

    parser.error = refuse
    for field in dataclasses.fields(defaults):
        value, flag = getattr(defaults, field.name), "--" + field.name.replace("_", "-")
        options: dict[str, Any] = {"type": Path if value is None else type(value)}
        if isinstance(value, bool):
            options = {"action": argparse.BooleanOptionalAction}
        elif isinstance(value, tuple):
            options = {"nargs": "*", "type": type(value[0]) if value else str}
        parser.add_argument(flag, dest=field.name, default=value, **options)
    found = vars(parser.parse_args(arguments))
    return type(defaults)(**{k: tuple(v) if isinstance(v, list) else v for k, v in found.items()})
