"""Operators: what is measured of x, as pure functions `apply`, `adjoint` and `solve`.

    mask(known)                        known values: inpainting
    downsample(4), blur(kernel)        means of blocks; a convolution by FFT
    compose(blur(k), downsample(4))    one after the other
    grey()                             a grey image from a colour image
    radon(angles, event)               tomography
    fourier(known, coils)              magnetic resonance
    random_projection(key, m, event)   random measurements; `matrix` for a matrix of one's own
    phase_retrieval()                  magnitudes of Fourier coefficients; not linear
    linear(function, event)            any linear function; its adjoint is derived

Operators without a `solve` of their own are solved by conjugate gradients. `factored` gives a small one an
exact `solve`, and allows measurements without noise.

All functions map batches, and any event shape that makes sense will do:

>>> import jax.numpy as jnp
>>> operator = compose(blur(gaussian_kernel(1.0)), downsample(4))
>>> operator.apply(jnp.ones((2, 28, 28, 1))).shape
(2, 7, 7, 1)
>>> check(operator, (28, 28, 1))          # linear, and with the right adjoint; raises ValueError otherwise
"""

from jaxscore.inverse.operators.images import blur as blur
from jaxscore.inverse.operators.images import downsample as downsample
from jaxscore.inverse.operators.images import gaussian_kernel as gaussian_kernel
from jaxscore.inverse.operators.images import grey as grey
from jaxscore.inverse.operators.images import mask as mask
from jaxscore.inverse.operators.linear import Operator as Operator
from jaxscore.inverse.operators.linear import check as check
from jaxscore.inverse.operators.linear import compose as compose
from jaxscore.inverse.operators.linear import dense as dense
from jaxscore.inverse.operators.linear import factored as factored
from jaxscore.inverse.operators.linear import linear as linear
from jaxscore.inverse.operators.linear import matrix as matrix
from jaxscore.inverse.operators.linear import pseudo_inverse as pseudo_inverse
from jaxscore.inverse.operators.linear import random_projection as random_projection
from jaxscore.inverse.operators.linear import solve as solve
from jaxscore.inverse.operators.transforms import centred as centred
from jaxscore.inverse.operators.transforms import fourier as fourier
from jaxscore.inverse.operators.transforms import phase_retrieval as phase_retrieval
from jaxscore.inverse.operators.transforms import radon as radon
