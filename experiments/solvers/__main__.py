"""python -m experiments.solvers"""

from experiments.solvers.run import Config, run
from jaxscore.launch import program

program(run, Config())
