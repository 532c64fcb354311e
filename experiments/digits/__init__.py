"""The main job: a noise-conditional score network on real handwritten digits."""

from experiments.digits.config import Config as Config
from experiments.digits.experiment import build as build
