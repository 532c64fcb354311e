"""Every family of generative models on one budget, judged on three axes."""

from experiments.trilemma.run import Config as Config
