"""The lecture's theorems, measured."""

from experiments.theorems.run import Config as Config
