"""python -m experiments.bench"""

from experiments.bench.run import Config, measure
from jaxscore.launch import program

program(measure, Config(), folder="out")
