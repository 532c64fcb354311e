"""python -m experiments.restore"""

from experiments.restore.run import main

main()
