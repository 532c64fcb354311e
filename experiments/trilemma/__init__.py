"""The generative learning trilemma: families of models compared on the same training budget."""

from experiments.trilemma.run import Config as Config
