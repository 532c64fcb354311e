"""python -m experiments.trilemma"""

from experiments.trilemma.run import Config, run
from jaxscore.launch import program

program(run, Config())
