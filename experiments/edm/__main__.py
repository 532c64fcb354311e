"""python -m experiments.edm"""

from experiments.edm.experiment import main

main()
