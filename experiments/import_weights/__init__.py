"""Published weights as a run that samples, evaluates and goes on training."""

from experiments.import_weights.config import Config as Config
from experiments.import_weights.experiment import build as build
