"""What a step, a save and a sampler cost on this machine."""

from experiments.bench.run import Config as Config
