"""What one training step costs by each objective, against the dimension of the data."""

from experiments.cost.run import Config as Config
