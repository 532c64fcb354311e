"""python -m experiments.bench"""

from experiments.bench.run import main

main()
