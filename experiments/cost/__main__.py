"""python -m experiments.cost"""

from experiments.cost.run import Config, run
from jaxscore.launch import program

program(run, Config())
