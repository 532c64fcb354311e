"""Simulation-based inference: posteriors that a score network learns from simulations.

`tasks` has priors, simulators and likelihoods. `references` reads published draws of their posteriors.
`coordinates` maps parameters and data to a scale that a score network can learn. `experiment` trains and
judges. `draw`, `draw_each` and `log_density` ask a trained run for the posterior of one's own observation.
"""

from experiments.sbi.config import Config as Config
from experiments.sbi.experiment import build as build
from experiments.sbi.experiment import defaults as defaults
from experiments.sbi.opened import draw as draw
from experiments.sbi.opened import draw_each as draw_each
from experiments.sbi.opened import log_density as log_density
