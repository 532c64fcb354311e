"""jaxscore: score-based generative modelling in JAX, from the theorem to the TPU pod.

`import jaxscore as js` gives every module as an attribute (`js.objectives.denoising`,
`js.samplers.heun`). Modules are imported when they are first used, so that a script that only
samples never pays for Flax, Orbax or the data libraries.
"""

import importlib
import pkgutil

__version__ = "0.1.0"
__all__ = sorted(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
