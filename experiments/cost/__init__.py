"""Time and memory of one training step for each objective, as functions of the dimension of the data."""

from experiments.cost.run import Config as Config
