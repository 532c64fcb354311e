"""Tests of the lecture's theorems by measurement."""

from experiments.theorems.run import Config as Config
