"""python -m experiments.likelihood"""

from experiments.likelihood.config import Config
from experiments.likelihood.run import run
from jaxscore.launch import program

program(run, Config())
