"""python -m experiments.restore"""

from experiments.restore.config import Config
from experiments.restore.run import run
from jaxscore.launch import program

program(run, Config())
