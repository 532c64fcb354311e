"""Data: images in 0..1 with labels, and batches that are a function of (seed, step).

    data.load("digits")                           an array of float32
    data.load("fashion_mnist")                    Images, held in memory as bytes
    data.load("celeb_a", "/data/tfds")            too large for that: Images, read when asked for
    data.load("folder:ffhq256", size=64)

Arrays and Images are used alike: `x[numbers]`, `x.shape`, `len(x)`, and `x[:]` where `fits(x)`. A batch
is a dictionary, {"x": ..., "label": ...}; images in it may be bytes, which `pixels.unit` scales on the
device. `fingerprint(dataset)` tells in a second whether two data sets are the same.

>>> examples = load("digits").examples
>>> examples.shape, float(examples.max())
((1797, 8, 8, 1), 1.0)
>>> next(batches(load("digits"), batch=32, seed=0, start=7))["x"].shape
(32, 8, 8, 1)
"""

from jaxscore.data import augment as augment
from jaxscore.data import pixels as pixels
from jaxscore.data.arrays import Dataset as Dataset
from jaxscore.data.arrays import digits as digits
from jaxscore.data.arrays import from_npz as from_npz
from jaxscore.data.arrays import random_images as random_images
from jaxscore.data.arrays import stacked_digits as stacked_digits
from jaxscore.data.arrays import toy as toy
from jaxscore.data.fingerprints import fingerprint as fingerprint
from jaxscore.data.images import DataError as DataError
from jaxscore.data.images import Examples as Examples
from jaxscore.data.images import Images as Images
from jaxscore.data.images import fits as fits
from jaxscore.data.images import held as held
from jaxscore.data.load import load as load
from jaxscore.data.load import splits as splits
from jaxscore.data.stream import batches as batches
