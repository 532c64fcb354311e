"""The families of generative models that `experiments.trilemma` compares, one file each.

All see the same data (setting.py), are trained by the launcher like every other experiment, for as many steps
as a budget of FLOPs allows (budget.py), and are judged alike (judging.py). A family's module has a `Config`,
whose defaults are its recipe but for what a data set needs otherwise (recipes.py), `build(config) ->
Experiment`, and `evaluations(config)`: those of the network that a sample of each of its samplers costs.
"""
