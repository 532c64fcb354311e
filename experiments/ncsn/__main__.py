"""python -m experiments.ncsn"""

from experiments.ncsn.experiment import main

main()
