"""python -m experiments.theorems"""

from experiments.theorems.run import Config, run
from jaxscore.launch import program

program(run, Config())
