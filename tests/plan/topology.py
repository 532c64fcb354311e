"""Chips that are not there need libtpu, which not every machine has."""

import importlib.util

import pytest

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu (extra [plan]) is not installed"
)
