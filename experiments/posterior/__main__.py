"""python -m experiments.posterior"""

from experiments.posterior.run import Config, run
from jaxscore.launch import program

program(run, Config())
