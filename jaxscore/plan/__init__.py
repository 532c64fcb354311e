"""What a program will cost on a machine that is not there: reads the program that XLA has compiled for it.

    compiled = step.lower(key, state, batch).compile()      for the local devices, or for a TPU topology
    found = plan.cost(compiled)                              operations, bytes, exchanges, memory
    bound = plan.roofline(found, plan.find("TPU v5e"))       least time in seconds, and what limits it

`experiments.plan` compiles an experiment's training step and samplers for a TPU topology and prints this.
"""

from jaxscore.plan.bounds import Cost as Cost
from jaxscore.plan.bounds import Memory as Memory
from jaxscore.plan.bounds import Roofline as Roofline
from jaxscore.plan.bounds import cost as cost
from jaxscore.plan.bounds import parameters as parameters
from jaxscore.plan.bounds import read as read
from jaxscore.plan.bounds import roofline as roofline
from jaxscore.plan.chips import CHIPS as CHIPS
from jaxscore.plan.chips import Chip as Chip
from jaxscore.plan.chips import find as find
from jaxscore.plan.chips import measured as measured
from jaxscore.plan.chips import unknown as unknown
from jaxscore.plan.exchange import Collective as Collective
from jaxscore.plan.exchange import collectives as collectives
from jaxscore.plan.topologies import compiled as compiled
from jaxscore.plan.topologies import topology as topology
