"""Grids of cases: `make test` runs a sample of each, `pytest -m exhaustive` runs the rest."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest


def rest(*values: Any):
    """A case of a parametrized test that only `pytest -m exhaustive` runs."""
    return pytest.param(*values, marks=pytest.mark.exhaustive)


def diagonal(*axes: Sequence[Any]) -> list:
    """All combinations of the axes; in the sample is a diagonal, which has every value of every axis."""
    longest = max(map(len, axes))
    sample = [tuple(axis[number % len(axis)] for axis in axes) for number in range(longest)]
    return [case if case in sample else rest(*case) for case in itertools.product(*axes)]
