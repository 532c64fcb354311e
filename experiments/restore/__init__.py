"""Images from measurements of them, with uncertainty, by any trained run of images."""

from experiments.restore.config import Config as Config
