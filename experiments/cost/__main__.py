"""python -m experiments.cost"""

from experiments.cost.run import main

main()
