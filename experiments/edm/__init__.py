"""Diffusion models of the literature: EDM's recipe with the networks of the field, and published presets."""

from experiments.edm.config import Config as Config
from experiments.edm.experiment import build as build
from experiments.edm.presets import PRESETS as PRESETS
