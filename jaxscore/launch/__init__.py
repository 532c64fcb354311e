"""The launcher: what turns an experiment of one's own into a command with flags.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Flowers(Config): ...                  # the flags, with the recipe as their defaults

    def build(config) -> Experiment: ...        # pure functions and data

    main(build, Flowers())                      # flags, training, resume, shards, samples, pictures

Needs the extra `launch`: pip install 'jaxscore[launch]'.
"""

import contextlib
import os
import sys

try:
    # A name in MPLBACKEND that matplotlib does not know would be an error of its import.
    _backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    import matplotlib
    import msgspec  # noqa: F401
    import PIL  # noqa: F401
    import rich  # noqa: F401
    import tyro  # noqa: F401
except ImportError as error:
    raise ImportError(f"jaxscore.launch needs {error.name}: pip install 'jaxscore[launch]'") from None

from jaxscore.launch.config import Config as Config
from jaxscore.launch.config import Mesh as Mesh
from jaxscore.launch.config import Optimizer as Optimizer
from jaxscore.launch.experiment import Experiment as Experiment
from jaxscore.launch.experiment import Player as Player
from jaxscore.launch.experiment import Units as Units
from jaxscore.launch.experiment import balanced as balanced
from jaxscore.launch.flags import FlagError as FlagError
from jaxscore.launch.metrics_log import NonFinite as NonFinite
from jaxscore.launch.open_run import Run as Run
from jaxscore.launch.open_run import open_run as open_run
from jaxscore.launch.run import main as main
from jaxscore.launch.run import one_line_errors as one_line_errors
from jaxscore.launch.run import program as program
from jaxscore.launch.run import run as run
from jaxscore.launch.run import running as running
from jaxscore.launch.signals import Interrupted as Interrupted
from jaxscore.launch.workdir import Refusal as Refusal

if _backend is not None:  # as a notebook sets it for its own pictures
    os.environ["MPLBACKEND"] = _backend
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = _backend
