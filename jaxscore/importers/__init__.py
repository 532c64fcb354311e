"""Importers of published weights, which are read by name; nothing in a file is executed.

    edm.load("edm-cifar10-32x32-cond-vp.pkl")     EDM and EDM2, pickles of NVIDIA's code
    score_sde.load("checkpoint_24.pth")           NCSN++ and DDPM++ of Song et al. 2021
    diffusers.load("google-ddpm-cifar10-32")      UNet2DModel and DiTTransformer2DModel
    safetensors.load("weights")                   this library's own, written by `save`
    ncsn.params(network, state)                   NCSN and NCSNv2, from a state dict; parameters only
    inception.load(path)                          the Inception network of the FID; parameters only

The others return score, network and params. The score is score(params, x, sigma, condition=None), with
x = x0 + sigma n and images in -1..1; bind the parameters, and the condition if there is one:

    bound = partial(score, params, condition=labels)
    samplers.generate(key, (64, 32, 32, 3), sigmas, bound, samplers.heun())

`read(path)` recognises the family and returns a `Description` and the parameters; `build(description)` makes
the score and the network. PyTorch and diffusers are not needed. Files of safetensors need the extra
`weights`.
"""

from jaxscore.importers import diffusers as diffusers
from jaxscore.importers import edm as edm
from jaxscore.importers import inception as inception
from jaxscore.importers import ncsn as ncsn
from jaxscore.importers import safetensors as safetensors
from jaxscore.importers import score_sde as score_sde
from jaxscore.importers.description import Description as Description
from jaxscore.importers.description import as_json as as_json
from jaxscore.importers.description import build as build
from jaxscore.importers.description import describe as describe
from jaxscore.importers.description import from_json as from_json
from jaxscore.importers.description import preconditioned as preconditioned
from jaxscore.importers.families import read as read
from jaxscore.importers.families import recognise as recognise
from jaxscore.importers.weights import initial as initial
