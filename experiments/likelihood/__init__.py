"""Likelihood of the test set of a trained run, and the estimates on mixtures whose density is known."""

from experiments.likelihood.config import Config as Config
