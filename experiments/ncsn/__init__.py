"""NCSN and NCSNv2 as published, and annealed Langevin dynamics."""

from experiments.ncsn.experiment import Config as Config
from experiments.ncsn.experiment import build as build
