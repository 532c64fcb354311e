"""Importers of published weights, which are read by name; nothing in the file is executed.

    importers.ncsn.params(network, state)      NCSN and NCSNv2, from a PyTorch state dict of arrays
    importers.inception.load(path)             the Inception network of the FID, from its file

The caller of `params` reads the file and passes its arrays.
"""

from jaxscore.importers import inception as inception
from jaxscore.importers import ncsn as ncsn
