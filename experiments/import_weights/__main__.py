"""python -m experiments.import_weights"""

from experiments.import_weights.run import main

main()
