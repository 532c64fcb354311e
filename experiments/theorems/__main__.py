"""python -m experiments.theorems"""

from experiments.theorems.run import main

main()
