"""The FLOPs of a training step, and the number of steps in a budget of FLOPs."""

from functools import partial

import jax
import numpy as np

from experiments.families import budget
from experiments.families import setting as settings
from tests.experiments.families import small


def test_a_budget_is_so_many_steps(monkeypatch):
    module, config = small.module("edm"), small.config("edm")
    small_one, each = budget.within(module.build, config, 1e9)
    assert small_one.steps == round(1e9 / each)
    monkeypatch.setattr(budget, "cost", lambda build, config: each)
    assert budget.within(module.build, config, 1.0)[0].steps == 1
    # A dense network: 2 products for each weight and example, but one for those of the input.
    x, c_noise = module.family.zeros(settings.of("25gaussians"))
    network = module.family.score_network(config, settings.of("25gaussians"))
    tree = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)
    kernels = sum(leaf.size for leaf in jax.tree.leaves(tree) if leaf.ndim == 2)
    assert 4 * kernels * config.batch < each <= 6 * kernels * config.batch


def test_layers_that_are_a_loop_cost_each():
    module = small.module("flow")
    two, four = (budget.cost(module.build, small.config("flow", layers=layers, knots=0)) for layers in (2, 4))
    np.testing.assert_allclose(four / two, 2, rtol=0.05)


def test_two_phases_cost_by_their_numbers_of_steps(monkeypatch):
    monkeypatch.setattr(budget, "_flops", lambda experiment: 1.0 + 4.0 * (experiment.config.teacher == 0))
    module = small.module("distilled")
    cost = lambda teacher: budget.cost(module.build, small.config("distilled", teacher=teacher))
    assert [cost(teacher) for teacher in (0.0, 0.25, 1.0)] == [5.0, 4.0, 1.0]


def test_a_penalty_costs_by_how_often_it_is_computed(monkeypatch):
    module, config = small.module("gan"), partial(small.config, "gan")
    # Compiled with the penalty and without it, not for every cost again.
    flops = {
        penalty: budget._flops(module.build(config(penalty=penalty, interval=1))) for penalty in (0.0, 0.1)
    }
    monkeypatch.setattr(budget, "_flops", lambda experiment: flops[experiment.config.penalty])
    cost = lambda **changes: budget.cost(module.build, config(**changes))
    never, always, lazily = cost(penalty=0.0), cost(penalty=0.1, interval=1), cost(penalty=0.1, interval=10)
    assert never < lazily < always
    np.testing.assert_allclose(lazily - never, (always - never) / 10)
