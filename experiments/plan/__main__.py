"""python -m experiments.plan"""

from experiments.plan.run import main

main()
