"""python -m experiments.trilemma"""

from experiments.trilemma.run import main

main()
