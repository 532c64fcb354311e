"""Import of PyTorch weights: with a stand-in for torch, which need not be installed, and once with torch."""

import dataclasses
import importlib.machinery
import pickle
import re
import shlex
import sys
import types

import jax
import numpy as np
import pytest

from experiments import import_weights
from experiments.ncsn import experiment as ncsn
from experiments.ncsn.config import PRESETS
from jaxscore import importers
from jaxscore.launch import flags
from jaxscore.launch.flags import FlagError
from tests.launch.tiny import assert_identical, newest
from tests.networks import numpy_ncsn

open_run = sys.modules["jaxscore.launch.open_run"]  # `launch.open_run` is the function

STEP = 4321


class Tensor:
    """What torch.load gives, as far as it is looked at."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def numpy(self):
        return self.values


@pytest.fixture(scope="module", autouse=True)
def parser():
    """tyro looks for torch once, when it is first used: that must not be when another stands in for it."""
    flags.parse(PRESETS["digits"], [])


@pytest.fixture
def files(monkeypatch, tmp_path):
    """A torch that loads what is put here under a path, and refuses all else; no data anywhere."""
    contents = {}

    def load(path, *, map_location, weights_only):
        assert (map_location, weights_only) == ("cpu", True)  # a file's code is never executed
        if path not in contents:
            raise pickle.UnpicklingError("Weights only load failed.\nWrong magic number")
        return contents[path]

    torch = types.ModuleType("torch")
    torch.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    torch.load, torch.Tensor = load, Tensor  # SciPy asks whether an array is of the latter
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tensorflow_datasets"))
    return contents


def state_of(*, image_channels=1, stages=numpy_ncsn.SHALLOW, levels=None, seed=0):
    return numpy_ncsn.random_state(seed, numpy_ncsn.entries(4, image_channels, stages, levels))


def without(name):
    return {key: value for key, value in state_of().items() if key != name}


def tensors(state, prefix=""):
    return {prefix + name: Tensor(value) for name, value in state.items()}


def sigmas(first=20.0, last=0.01, n=7):
    return np.exp(np.linspace(np.log(first), np.log(last), n)).astype(np.float32)


def stored(files, path, contents):
    path.write_text("a checkpoint")
    files[path] = contents
    return path


def as_published(state, average, *, levels=None):
    """state dict, optimiser, epoch, step, averages: as the authors' code saves them."""
    buffer = {} if levels is None else {"module.sigmas": Tensor(levels)}
    first = {**tensors(state, "module."), **buffer}
    return [first, {"state": {}, "param_groups": [{"lr": 1e-4}]}, 12, STEP, tensors(average)]


# What is made ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "levels"), [("digits", None), ("mnist", 10)])
def test_the_folder_is_a_finished_run_with_the_parameters(
    files, tmp_path, capsys, monkeypatch, preset, levels
):
    # Of one stage: hundreds of small arrays take seconds to save and to restore.
    monkeypatch.setitem(ncsn.STAGES, "small", ((1, 1),))
    entries = {"levels": levels, "stages": (("1", 1, 1),)}
    state, average = state_of(**entries), state_of(**entries, seed=1)
    path = stored(files, tmp_path / "x.pth", as_published(state, average))
    config = import_weights.Config(checkpoint=path, workdir=tmp_path / "run", preset=preset)
    import_weights.run(config)
    # To sample from it no data are needed.
    made = open_run.described(config.workdir, ncsn.build, type(PRESETS[preset])).config
    assert made == import_weights.configuration(config, state, STEP)
    restored = newest(config.workdir, ncsn.build(made))
    assert int(restored.step) == made.steps == STEP
    expected = jax.device_get(importers.ncsn.params(ncsn.score_network(made)[0], average))
    assert_identical((restored.params, restored.ema), (expected, expected))
    printed = capsys.readouterr().out
    assert f"{sum(value.size for value in state.values()):,} parameters of {made.network}" in printed
    assert import_weights.command(made) in printed.splitlines()


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
def test_the_network_and_the_levels_are_found(files, tmp_path, preset, entries, levels, found):
    state = state_of(**entries)
    path = stored(files, tmp_path / "x", {})
    folder = tmp_path / "it's a folder"
    config = import_weights.Config(checkpoint=path, workdir=folder, preset=preset)
    made = import_weights.configuration(config, state | levels, STEP)
    always = {"channels": 4, "steps": STEP, "workdir": folder, "mode": "sample", "ablate": False}
    assert made == dataclasses.replace(PRESETS[preset], **always, **found)
    # And it is the network that the parameters fit.
    assert importers.ncsn.params(ncsn.score_network(made)[0], state)

    # The command that is printed has the very same flags.
    words = shlex.split(import_weights.command(made))
    assert words[:5] == ["python", "-m", "experiments.ncsn", "--preset", preset]
    chosen = PRESETS[flags.choose("preset", PRESETS, "fashion", words[3:])]
    assert flags.parse(chosen, words[3:]) == made


@pytest.mark.parametrize("average", [True, False])
def test_the_averages_are_taken_unless_they_are_not_wanted(files, tmp_path, average):
    first, last = state_of(), state_of(seed=1)
    path = stored(files, tmp_path / "x.pth", as_published(first, last, levels=sigmas()))
    state, step = import_weights.read(path, average=average)
    assert step == STEP
    np.testing.assert_array_equal(state.pop("sigmas"), sigmas())  # the averages have none
    assert_identical(state, last if average else first)


def test_a_plain_state_dict_is_read_too(files, tmp_path):
    path = stored(files, tmp_path / "x.pth", tensors(state_of()))
    state, step = import_weights.read(path, average=True)
    assert_identical(state, state_of())
    assert step == 0
    config = import_weights.Config(checkpoint=path, workdir=tmp_path / "run", preset="digits")
    assert import_weights.configuration(config, state, step).steps == PRESETS["digits"].steps


# What is refused ------------------------------------------------------------------------------

BAD = [
    # the file's contents, the preset, what the line says
    (tensors(without("normalizer.alpha")), "digits", "no 'normalizer.alpha', which NCSNv2 needs"),
    (tensors(state_of() | {"extra": np.zeros(3)}), "digits", "has 'extra', which NCSNv2 does not"),
    (tensors(state_of() | {"end_conv.bias": np.zeros(2)}), "digits", r"'end_conv.bias' as \(2,\)"),
    (
        tensors(state_of() | {"sigmas": np.linspace(5, 0.01, 9)}),
        "digits",
        "its noise levels are not geometric",
    ),
    ([1, {"weights": Tensor([1.0])}], "digits", "holds no state dict of NCSN or NCSNv2"),
    (3, "digits", "holds no state dict of NCSN or NCSNv2"),
    (tensors(state_of()), "cifar10", "--preset cifar10: has images of 3 channels, .* of 1$"),
    (tensors(state_of(levels=10)), "digits", "--preset digits: is a recipe of ncsnv2, .* holds ncsn$"),
    (tensors(state_of()), "mnist", "--preset mnist: is a recipe of ncsn, .* holds ncsnv2$"),
]


@pytest.mark.parametrize(("contents", "preset", "said"), BAD)
def test_a_file_that_does_not_fit_is_one_line_and_writes_nothing(
    files, tmp_path, refused, contents, preset, said
):
    path = stored(files, tmp_path / "x.pth", contents)
    assert re.search(said, refused("import_weights", f"--checkpoint {path} --workdir run --preset {preset}"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--checkpoint bad.pth", "cannot read it: Weights only load failed. Wrong magic number"),
        ("--checkpoint absent.pth", "--checkpoint absent.pth: is no file"),
        ("--checkpoint bad.pth --preset imagenet", "--preset imagenet: is not known; use digits, "),
        ("--preset digits", "missing: --checkpoint"),
        ("--checkpoint bad.pth --workdir occupied", "--workdir occupied: holds a run already"),
    ],
)
def test_bad_input_is_one_line_and_status_2(files, tmp_path, refused, words, said):
    (tmp_path / "bad.pth").write_text("no checkpoint")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "config.json").write_text("{}")
    assert said in refused("import_weights", f"--workdir run {words}")


def test_without_torch_the_line_says_how_to_get_it(tmp_path, monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "x.pth").write_text("a checkpoint")
    said = "not installed: pip install 'jaxscore[torch]'\n"
    assert refused("import_weights", "--checkpoint x.pth --workdir run").endswith(said)


# With torch -----------------------------------------------------------------------------------


def test_files_that_torch_has_written(tmp_path):
    torch = pytest.importorskip("torch")
    state, average = state_of(), state_of(seed=1)
    as_tensors = lambda state, prefix="": {prefix + k: torch.from_numpy(v.copy()) for k, v in state.items()}
    weights = [torch.nn.Parameter(value) for value in as_tensors(state).values()]
    optimiser = torch.optim.Adam(weights, lr=1e-4)
    sum(weight.sum() for weight in weights).backward()
    optimiser.step()  # so that it has moments to save
    first = {**as_tensors(state, "module."), "module.sigmas": torch.from_numpy(sigmas())}
    path = tmp_path / "checkpoint.pth"
    torch.save([first, optimiser.state_dict(), 3, STEP, as_tensors(average)], path)
    found, step = import_weights.read(path, average=True)
    np.testing.assert_array_equal(found.pop("sigmas"), sigmas())
    assert_identical(found, average)
    assert step == STEP


class Harmful:
    """Whose unpickling would write a file."""

    def __reduce__(self):
        return (open, ("harm", "w"))


def test_torch_executes_nothing_of_a_file(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save([Harmful()], "harmful.pth")
    (tmp_path / "damaged.pth").write_bytes(b"no checkpoint at all")
    for name in ("harmful.pth", "damaged.pth"):
        with pytest.raises(FlagError, match=f"--checkpoint {name}: .*cannot read it: ") as caught:
            import_weights.read(tmp_path.joinpath(name).relative_to(tmp_path), average=True)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()
