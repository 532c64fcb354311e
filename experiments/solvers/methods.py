"""The samplers that are compared, each with as many steps as a number of evaluations allows."""

from collections.abc import Callable
from typing import NamedTuple

from jaxscore import samplers
from jaxscore.samplers import Sampler


class Method(NamedTuple):
    """A sampler, and what one of its steps costs."""

    make: Callable[[int], Sampler]
    """make(n) -> the sampler for n steps."""
    cost: int = 1
    """Evaluations of a step; the one to sigma = 0 costs one."""
    noisy: bool = False
    """Whether it adds noise, so that it does not follow the probability flow."""

    def steps(self, evaluations: int) -> int:
        """Returns the number of steps that the evaluations allow."""
        return (evaluations - 1) // self.cost + 1


METHODS = {
    "euler": Method(lambda n: samplers.euler()),
    "heun": Method(lambda n: samplers.heun(), cost=2),
    "dpm_solver_2": Method(lambda n: samplers.dpm_solver_2(), cost=2),
    "dpm_solver_pp_2s": Method(lambda n: samplers.dpm_solver_pp_2s(), cost=2),
    "dpm_solver_pp 2": Method(lambda n: samplers.dpm_solver_pp(2)),
    "dpm_solver_pp 3": Method(lambda n: samplers.dpm_solver_pp(3)),
    "deis 3": Method(lambda n: samplers.deis(3)),
    "lms 4": Method(lambda n: samplers.lms(4)),
    "unipc 2": Method(lambda n: samplers.unipc(2)),
    "unipc 3": Method(lambda n: samplers.unipc(3)),
    "ancestral": Method(lambda n: samplers.ancestral(), noisy=True),
    "ancestral dpm_solver_2": Method(lambda n: samplers.ancestral(samplers.dpm_solver_2()), 2, noisy=True),
    "euler_maruyama": Method(lambda n: samplers.euler_maruyama(), noisy=True),
    "dpm_solver_pp 2, eta 1": Method(lambda n: samplers.dpm_solver_pp(2, eta=1.0), noisy=True),
    "dpm_solver_pp_sde": Method(lambda n: samplers.dpm_solver_pp_sde(), cost=2, noisy=True),
    "churn heun": Method(lambda n: samplers.churn(n / 4, samplers.heun(), steps=n), cost=2, noisy=True),
}
"""By the names in the table."""

ON_FOUND_LEVELS = {"dpm_solver_pp 2": METHODS["dpm_solver_pp 2"], "deis 3": METHODS["deis 3"]}
"""Samplers that also run on the levels that `samplers.optimised` finds, for a few evaluations."""
