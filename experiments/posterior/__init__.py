"""How wrong approximate posteriors are, measured on mixtures whose posterior is exact."""

from experiments.posterior.run import Config as Config
