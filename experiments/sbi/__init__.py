"""Simulation-based inference: tasks, their reference posteriors, and coordinates for training.

`tasks` has priors, simulators and likelihoods. `references` reads published draws of their posteriors.
`coordinates` maps parameters and data to a scale that a score network can learn.
"""
