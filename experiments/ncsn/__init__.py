"""NCSN and NCSNv2 as published, and annealed Langevin dynamics."""

from experiments.ncsn.config import PRESETS as PRESETS
from experiments.ncsn.config import Config as Config
from experiments.ncsn.experiment import build as build
