"""python -m experiments.digits"""

from experiments.digits import Config, build
from jaxscore.launch import main

main(build, Config())
