"""The FLOPs of a training step, and the number of steps in a budget of FLOPs."""

import jax
import numpy as np

from experiments.families import budget
from experiments.families import setting as settings
from tests.experiments.families import small


def test_a_budget_is_so_many_steps():
    module, config = small.module("edm"), small.config("edm")
    small_one, each = budget.within(module.build, config, 1e9)
    assert small_one.steps == round(1e9 / each)
    # A dense network: 2 products for each weight and example, but one for those of the input.
    x, c_noise = module.family.zeros(settings.of("25gaussians"))
    network = module.family.score_network(config, settings.of("25gaussians"))
    tree = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)
    kernels = sum(leaf.size for leaf in jax.tree.leaves(tree) if leaf.ndim == 2)
    assert 4 * kernels * config.batch < each <= 6 * kernels * config.batch
    assert budget.within(module.build, config, 1.0)[0].steps == 1


def test_layers_that_are_a_loop_cost_each():
    module = small.module("flow")
    two, four = (budget.cost(module.build, small.config("flow", layers=layers)) for layers in (2, 4))
    np.testing.assert_allclose(four / two, 2, rtol=0.05)


def test_a_penalty_costs_by_how_often_it_is_computed(monkeypatch):
    module = small.module("gan")
    known, flops = {}, budget._flops

    def once(experiment):
        """Compiled with the penalty and without it, not for every cost again."""
        penalised = experiment.config.penalty > 0
        if penalised not in known:
            known[penalised] = flops(experiment)
        return known[penalised]

    monkeypatch.setattr(budget, "_flops", once)
    cost = lambda **changes: budget.cost(module.build, small.config("gan", **changes))
    never, always, lazily = cost(penalty=0.0), cost(interval=1), cost(interval=10)
    assert never < lazily < always
    np.testing.assert_allclose(lazily - never, (always - never) / 10)
