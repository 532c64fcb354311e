"""What an experiment's programs will cost on devices that need not be there."""

from experiments.plan.run import Config as Config
