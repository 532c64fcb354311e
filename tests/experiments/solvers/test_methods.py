import pytest

from experiments.solvers.methods import METHODS, ON_FOUND_LEVELS
from jaxscore import samplers


@pytest.mark.parametrize("name", METHODS)
def test_a_method_needs_the_evaluations_that_it_is_given(name):
    """One less if a step costs two and their number is even."""
    method = METHODS[name]
    for n in (7, 8):
        steps = method.steps(n)
        found = samplers.evaluations(method.make(steps), steps)
        assert found == 1 + (steps - 1) * method.cost
        assert n - method.cost < found <= n


def test_levels_are_found_for_samplers_that_follow_the_flow():
    assert set(ON_FOUND_LEVELS) <= set(METHODS)
    assert not any(method.noisy for method in ON_FOUND_LEVELS.values())
