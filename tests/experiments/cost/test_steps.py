"""The training steps that are compared, and how they are timed."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import timing
from experiments.cost import run as cost
from experiments.cost import steps as cost_steps
from experiments.cost.steps import AT_ONCE, DENOISING, FINITE_DIFFERENCE, IMPLICIT, SLICED, Step

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def steps():
    """Three of the steps at D = 48, the exact trace in chunks of 4 and all at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost_steps, "CHUNK", 4)
        patch.setattr(cost_steps, "DEPTH", 1)
        losses, some = cost_steps.losses, (DENOISING, IMPLICIT, AT_ONCE)
        patch.setattr(cost_steps, "losses", lambda *a: {name: losses(*a)[name] for name in some})
        return cost_steps.compiled(cost.Config(width=8, batch=16), 48)


def test_a_step_trains_and_the_chunks_do_not_matter(steps):
    values = {name: np.array([float(step.run()) for _ in range(8)]) for name, step in steps.items()}
    # On one batch the exact objectives fall at every step; denoising draws new noise each time.
    assert np.all(np.diff(values[IMPLICIT]) < 0)
    np.testing.assert_allclose(values[IMPLICIT], values[AT_ONCE], rtol=1e-4)  # sums in another order
    assert len(set(values[DENOISING])) == 8
    # The untrained score is -x / (1 + sigma^2), whose trace is -D / 1.25, and x has variance 1; a mean
    # of 16 x 48 squares is uncertain by 5 %, the sum by 3 %.
    np.testing.assert_allclose(values[IMPLICIT][0], 48 * (0.5 / 1.25**2 - 1 / 1.25), rtol=0.12)


def test_all_at_once_needs_more_memory(steps):
    assert all(step.compile_seconds > 0 for step in steps.values())
    assert steps[AT_ONCE].temporary_bytes > 1.5 * steps[IMPLICIT].temporary_bytes


def test_every_objective_is_the_librarys():
    config, score = cost.Config(probes=3), lambda x, sigma: -2 * x
    few, many = cost_steps.losses(config, 64), cost_steps.losses(config, 65)
    assert list(few) == [DENOISING, FINITE_DIFFERENCE, SLICED, IMPLICIT]
    assert list(many) == [*few, AT_ONCE]
    assert set(many) == set(cost.COLORS)
    assert (many[IMPLICIT].keywords, many[AT_ONCE].keywords) == ({"chunk": 64}, {"chunk": 65})
    for name in (FINITE_DIFFERENCE, SLICED):
        assert many[name].keywords == {"probes": 3}
        # 1/2 |s|^2 + trace = 8 - 8, for each probe of a linear field; a difference of 0.02 loses digits.
        value = jax.jit(many[name], static_argnums=0)(score, jax.random.key(0), jnp.ones((2, 4)), jnp.ones(2))
        np.testing.assert_allclose(value, 0, atol=2e-3)


def test_jobs_are_timed_in_turn_and_a_slow_one_less_often(monkeypatch):
    """The first run of a job is not counted, unless it takes seconds and so needs no warming up."""
    now, calls = [0.0], []

    def job(name, *seconds):
        left = list(seconds)

        def run():
            calls.append(name)
            now[0] += left.pop(0) if len(left) > 1 else left[0]
            return jnp.zeros(())

        return run

    monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    jobs = {"fast": job("fast", 0.9, 0.1), "slow": job("slow", 2.5), "slower": job("slower", 50.0)}
    # Until 6 seconds are spent.
    for name, seconds in cost_steps.timings(jobs, 5).items():
        np.testing.assert_allclose(seconds, {"fast": [0.1] * 5, "slow": [2.5] * 3, "slower": [50.0]}[name])
    assert calls[:9] == ["fast", "slow", "slower", "fast", "slow", "fast", "slow", "fast", "fast"]


def test_a_step_with_too_much_memory_or_too_slow_is_left_out():
    config, step = cost.Config(width=32), Step(None, 1.0, MEGABYTE)
    assert cost_steps.left_out(config, 1024, step, None) == ""
    much = step._replace(temporary_bytes=4_200_000_000)
    why = cost_steps.left_out(config, 1024, much, None)
    assert why == "needs 4.2 GB, more than --memory-limit-gb 4"
    # D weights in and D out of each of 32 units, and D biases: D times that is its growth.
    work = lambda size: size * (65 * size + rest)
    rest = cost_steps.work(config, 1) - 65
    assert cost_steps.work(config, 784) == work(784)
    seconds = 60 * work(256) / work(1024)
    assert cost_steps.left_out(config, 1024, step, (256, 0.99 * seconds)) == ""
    why = cost_steps.left_out(config, 1024, step, (256, 2 * seconds))
    assert why == "would take 120 s a step, more than --seconds-limit 60"
