"""Speed and memory of training steps, checkpoints and samplers on this machine."""

from experiments.bench.run import Config as Config
