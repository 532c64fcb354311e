"""Import of NCSN and NCSNv2 from files as PyTorch writes them."""

import dataclasses
import re
import shlex
import sys

import jax
import numpy as np
import pytest

from experiments.import_weights import Config
from experiments.import_weights import ncsn as weights
from experiments.import_weights.run import run
from experiments.ncsn import experiment as ncsn
from experiments.ncsn.config import PRESETS
from jaxscore import importers
from jaxscore.launch import flags
from tests.importers.files import zipped
from tests.launch.tiny import assert_identical, newest
from tests.networks import numpy_ncsn

open_run = sys.modules["jaxscore.launch.open_run"]  # `launch.open_run` is the function

STEP = 4321


def state_of(*, image_channels=1, stages=numpy_ncsn.SHALLOW, levels=None, seed=0):
    return numpy_ncsn.random_state(seed, numpy_ncsn.entries(4, image_channels, stages, levels))


def without(name):
    return {key: value for key, value in state_of().items() if key != name}


def prefixed(state, prefix="module."):
    return {prefix + name: value for name, value in state.items()}


def sigmas(first=20.0, last=0.01, n=7):
    return np.exp(np.linspace(np.log(first), np.log(last), n)).astype(np.float32)


def stored(path, contents, write=zipped):
    path.write_bytes(write(contents))
    return path


def as_published(state, average, *, levels=None):
    """state dict, optimiser, epoch, step, averages: as the authors' code saves them."""
    buffer = {} if levels is None else {"module.sigmas": levels}
    first = {**prefixed(state), **buffer}
    return [first, {"state": {}, "param_groups": [{"lr": 1e-4}]}, 12, STEP, dict(average)]


# What is made ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "levels"), [("digits", None), ("mnist", 10)])
def test_the_folder_is_a_finished_run_with_the_parameters(tmp_path, capsys, monkeypatch, preset, levels):
    # The network has one stage, because hundreds of small arrays take seconds to save and to restore.
    monkeypatch.setitem(ncsn.STAGES, "small", ((1, 1),))
    entries = {"levels": levels, "stages": (("1", 1, 1),)}
    state, average = state_of(**entries), state_of(**entries, seed=1)
    path = stored(tmp_path / "x.pth", as_published(state, average))
    config = Config(checkpoint=path, workdir=tmp_path / "run", preset=preset)
    run(config)
    # To sample from it no data are needed.
    made = open_run.described(config.workdir, ncsn.build, type(PRESETS[preset])).config
    assert made == weights.configuration(config, state, STEP)
    restored = newest(config.workdir, ncsn.build(made))
    assert int(restored.step) == made.steps == STEP
    expected = jax.device_get(importers.ncsn.params(ncsn.score_network(made)[0], average))
    assert_identical((restored.params, restored.ema), (expected, expected))
    printed = capsys.readouterr().out
    assert f"{sum(value.size for value in state.values()):,} parameters of {made.network}" in printed
    assert weights.command(made) in printed.splitlines()


COLOURS = {"image_channels": 3}
DEEPER = COLOURS | {"stages": numpy_ncsn.DEEPER}
DEEPEST = COLOURS | {"stages": numpy_ncsn.DEEPEST}
LEVELS = {"levels": 7, "sigma_max": 20.0, "sigma_min": 0.01}  # and not 0.0099999998
KINDS = {
    # name: preset, what the state dict has, its levels; what differs from the preset
    "ncsnv2": ("digits", {}, {"sigmas": sigmas()}, LEVELS),
    "deeper": ("lsun_church", DEEPER, {"sigmas": sigmas()}, LEVELS),
    "deepest": ("ffhq", DEEPEST, {"sigmas": sigmas()}, LEVELS),
    "other stages": ("cifar10", DEEPER, {"sigmas": sigmas()}, LEVELS | {"stages": "deeper"}),
    "no levels": ("cifar10", COLOURS, {}, {}),
    "ncsn": ("ncsn_v1", COLOURS | {"levels": 12}, {}, {"levels": 12}),
}


@pytest.mark.parametrize(("preset", "entries", "levels", "found"), KINDS.values(), ids=KINDS)
def test_the_network_and_the_levels_are_found(tmp_path, preset, entries, levels, found):
    state = state_of(**entries)
    path = stored(tmp_path / "x", {})
    folder = tmp_path / "it's a folder"
    config = Config(checkpoint=path, workdir=folder, preset=preset)
    made = weights.configuration(config, state | levels, STEP)
    always = {"channels": 4, "steps": STEP, "workdir": folder, "mode": "sample", "ablate": False}
    assert made == dataclasses.replace(PRESETS[preset], **always, **found)
    # And it is the network that the parameters fit.
    assert importers.ncsn.params(ncsn.score_network(made)[0], state)

    # The command that is printed has the very same flags.
    words = shlex.split(weights.command(made))
    assert words[:5] == ["python", "-m", "experiments.ncsn", "--preset", preset]
    chosen = PRESETS[flags.choose("preset", PRESETS, "fashion", words[3:])]
    assert flags.parse(chosen, words[3:]) == made


@pytest.mark.parametrize("average", [True, False])
def test_the_averages_are_taken_unless_they_are_not_wanted(tmp_path, average):
    first, last = state_of(), state_of(seed=1)
    path = stored(tmp_path / "x.pth", as_published(first, last, levels=sigmas()))
    state, step = weights.read(path, average=average)
    assert step == STEP
    np.testing.assert_array_equal(state.pop("sigmas"), sigmas())  # the averages have none
    assert_identical(state, last if average else first)


def test_a_plain_state_dict_is_read_too(tmp_path):
    path = stored(tmp_path / "x.pth", dict(state_of()))
    state, step = weights.read(path, average=True)
    assert_identical(state, state_of())
    assert step == 0
    config = Config(checkpoint=path, workdir=tmp_path / "run", preset="digits")
    assert weights.configuration(config, state, step).steps == PRESETS["digits"].steps


# What is refused ------------------------------------------------------------------------------

BAD = [
    # the file's contents, the preset, what the line says
    (dict(without("normalizer.alpha")), "digits", "no 'normalizer.alpha', which NCSNv2 needs"),
    (dict(state_of() | {"extra": np.zeros(3)}), "digits", "has 'extra', which NCSNv2 does not"),
    (dict(state_of() | {"end_conv.bias": np.zeros(2)}), "digits", r"'end_conv.bias' as \(2,\)"),
    (
        dict(state_of() | {"sigmas": np.linspace(5, 0.01, 9)}),
        "digits",
        "its noise levels are not geometric",
    ),
    ([1, {"weights": np.ones(1, np.float32)}], "digits", "it holds list, and no weights by name"),
    (3, "digits", "it holds int, and no weights by name"),
    (dict(state_of()), "cifar10", "--preset cifar10: has images of 3 channels, .* of 1$"),
    (dict(state_of(levels=10)), "digits", "--preset digits: is a recipe of ncsnv2, .* holds ncsn$"),
    (dict(state_of()), "mnist", "--preset mnist: is a recipe of ncsn, .* holds ncsnv2$"),
]


@pytest.mark.parametrize(("contents", "preset", "said"), BAD)
def test_a_file_that_does_not_fit_is_one_line_and_writes_nothing(tmp_path, refused, contents, preset, said):
    path = stored(tmp_path / "x.pth", contents)
    assert re.search(said, refused("import_weights", f"--checkpoint {path} --workdir run --preset {preset}"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--checkpoint bad.pth", "bad.pth: it is no checkpoint"),
        ("--checkpoint absent.pth", "--checkpoint absent.pth: is no file"),
        ("--checkpoint bad.pth --preset imagenet", "--preset imagenet: is not known; use digits, "),
        (
            "--preset digits",
            "--data: --mode all needs images; name them, or give --mode sample, or --checkpoint",
        ),
        ("--checkpoint bad.pth --workdir occupied", "--workdir occupied: holds a run already"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, refused, words, said):
    (tmp_path / "bad.pth").write_text("no checkpoint")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "config.json").write_text("{}")
    assert said in refused("import_weights", f"--workdir run {words}")
