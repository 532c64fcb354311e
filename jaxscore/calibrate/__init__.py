"""Noise levels and step sizes from the data: the techniques of Song & Ermon 2020, and EDM's training noise.

    sigma_1       largest distance between two examples                               technique 1
    the ratio     so small that neighbouring noise levels still overlap               technique 2
    epsilon       so that the variance left at the end of a level fits its sigma      technique 4

`recipe` combines techniques 2 and 4. Units are the units of the data; `data.load` has pixels in 0..1.

>>> made = recipe((32, 32, 3), 50.0, steps=5)
>>> made.levels, f"{made.epsilon:.1e}"
(232, '6.2e-06')
>>> PRESETS["cifar10"].levels, PRESETS["cifar10"].epsilon
(232, 6.2e-06)

The functions that measure the data use JAX and may be jitted. All others compute with Python floats.
"""

from jaxscore.calibrate.levels import TrainingNoise as TrainingNoise
from jaxscore.calibrate.levels import annealing_error as annealing_error
from jaxscore.calibrate.levels import level_count as level_count
from jaxscore.calibrate.levels import overlap as overlap
from jaxscore.calibrate.levels import pace as pace
from jaxscore.calibrate.levels import ratio_for as ratio_for
from jaxscore.calibrate.levels import step_size as step_size
from jaxscore.calibrate.levels import training_noise as training_noise
from jaxscore.calibrate.recipes import PRESETS as PRESETS
from jaxscore.calibrate.recipes import Recipe as Recipe
from jaxscore.calibrate.recipes import recipe as recipe
from jaxscore.calibrate.spread import largest_distance as largest_distance
from jaxscore.calibrate.spread import largest_distance_estimate as largest_distance_estimate
from jaxscore.calibrate.spread import largest_distance_streamed as largest_distance_streamed
from jaxscore.calibrate.spread import sigma_data as sigma_data
