"""Metrics: how far samples are from data, how much of the data they cover, and whether they are copies.

>>> import numpy as np
>>> data, samples = np.random.default_rng(0).standard_normal((2, 500, 4))
>>> frechet(samples, data) < 0.1
True
>>> precision, recall = precision_recall(samples, data)
>>> precision > 0.8, recall > 0.8
(True, True)
"""

from jaxscore.metrics import inception as inception
from jaxscore.metrics.bootstrap import Interval as Interval
from jaxscore.metrics.bootstrap import Seeds as Seeds
from jaxscore.metrics.bootstrap import half_samples as half_samples
from jaxscore.metrics.bootstrap import interval as interval
from jaxscore.metrics.bootstrap import over_blocks as over_blocks
from jaxscore.metrics.bootstrap import over_seeds as over_seeds
from jaxscore.metrics.calibration import Coverage as Coverage
from jaxscore.metrics.calibration import Uniformity as Uniformity
from jaxscore.metrics.calibration import coverage_at as coverage_at
from jaxscore.metrics.calibration import density_ranks as density_ranks
from jaxscore.metrics.calibration import sbc_ranks as sbc_ranks
from jaxscore.metrics.calibration import tarp_ranks as tarp_ranks
from jaxscore.metrics.calibration import uniformity as uniformity
from jaxscore.metrics.compare import FEW as FEW
from jaxscore.metrics.compare import compare as compare
from jaxscore.metrics.compare import fingerprint as fingerprint
from jaxscore.metrics.compare import round_to as round_to
from jaxscore.metrics.copies import Memorisation as Memorisation
from jaxscore.metrics.copies import memorisation as memorisation
from jaxscore.metrics.copies import nearest_neighbour_ratio as nearest_neighbour_ratio
from jaxscore.metrics.coverage import covered as covered
from jaxscore.metrics.coverage import density_coverage as density_coverage
from jaxscore.metrics.coverage import precision_recall as precision_recall
from jaxscore.metrics.distances import class_kl as class_kl
from jaxscore.metrics.distances import frechet as frechet
from jaxscore.metrics.distances import frechet_of_gaussians as frechet_of_gaussians
from jaxscore.metrics.distances import sliced_wasserstein as sliced_wasserstein
from jaxscore.metrics.features import mapped as mapped
from jaxscore.metrics.features import principal_components as principal_components
from jaxscore.metrics.images import psnr as psnr
from jaxscore.metrics.images import ssim as ssim
from jaxscore.metrics.kernels import kid as kid
from jaxscore.metrics.kernels import median_distance as median_distance
from jaxscore.metrics.kernels import mmd as mmd
from jaxscore.metrics.modes import Modes as Modes
from jaxscore.metrics.modes import assign as assign
from jaxscore.metrics.modes import modes_found as modes_found
from jaxscore.metrics.modes import stacked as stacked
from jaxscore.metrics.neighbours import balls as balls
from jaxscore.metrics.neighbours import nearest as nearest
from jaxscore.metrics.two_sample import C2ST as C2ST
from jaxscore.metrics.two_sample import c2st as c2st
