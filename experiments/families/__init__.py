"""The families of generative models that `experiments.trilemma` compares, one file each.

All families use the same data (setting.py) and the same metrics (judging.py). The launcher trains them like
every other experiment, for as many steps as a budget of FLOPs allows (budget.py).

The module of a family has:

- `Config`: its flags. The defaults are the recipe for digits; overrides.py has the changes for other data.
- `build(config) -> Experiment`.
- `evaluations(config)`: the number of network evaluations for a sample, by sampler.
"""
