"""Quality against evaluations: every sampler of the library on one trained run."""

from experiments.solvers.run import Config as Config
