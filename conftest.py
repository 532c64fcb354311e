"""Settings of every test and doctest, made before jax is imported.

There are eight simulated devices. Broadcasting between ranks and using a random key twice are errors.
"""

import gc
import os

from tests import compiler

os.environ |= compiler.environment(devices=8)

import jax
import pytest

pytest_plugins = ["tests.browser"]

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
jax.config.update("jax_traceback_in_locations_limit", 0)  # a program does not list the lines it comes from


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--first-cases` is for a second Python: what differs there shows in one case of a test."""
    what = "of a test with parameters, run the first case"
    parser.addoption("--first-cases", action="store_true", help=what)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects `exhaustive` tests, unless `-m` names them, and cases that are not asked for."""
    left_out = set()
    if "exhaustive" not in config.option.markexpr:
        left_out |= {item for item in items if item.get_closest_marker("exhaustive")}
    if config.option.first_cases:
        first = {item.nodeid.partition("[")[0]: item for item in reversed(items) if item not in left_out}
        left_out |= set(items) - set(first.values())
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Modules stay in memory, so the garbage collector need not look at them: a tenth of the total time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)
