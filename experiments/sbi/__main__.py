"""python -m experiments.sbi"""

from experiments.sbi.experiment import main

main()
