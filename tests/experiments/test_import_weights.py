"""Import of PyTorch weights: with a stand-in for torch, which need not be installed, and once with torch."""

import dataclasses
import importlib.machinery
import pickle
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


@pytest.mark.parametrize(("preset", "entries"), [("digits", {}), ("mnist", {"levels": 10})])
def test_the_folder_is_a_finished_run_with_the_parameters(
    files, tmp_path, capsys, monkeypatch, preset, entries
):
    # Of one stage: hundreds of small arrays take seconds to save and to restore.
    monkeypatch.setitem(ncsn.STAGES, "small", ((1, 1),))
    entries = {**entries, "stages": (("1", 1, 1),)}
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
    assert_identical(restored.params, expected)
    assert_identical(restored.ema, expected)
    printed = capsys.readouterr().out
    assert f"{sum(value.size for value in state.values()):,} parameters of {made.network}" in printed
    assert printed.splitlines()[-1] == import_weights.command(made)


KINDS = {
    # name: preset, what the state dict has, its levels; network, stages
    "ncsnv2": ("digits", {}, 7, "ncsnv2", "small"),
    "deeper": ("lsun_church", {"image_channels": 3, "stages": numpy_ncsn.DEEPER}, 7, "ncsnv2", "deeper"),
    "deepest": ("ffhq", {"image_channels": 3, "stages": numpy_ncsn.DEEPEST}, 7, "ncsnv2", "deepest"),
    "other stages": ("cifar10", {"image_channels": 3, "stages": numpy_ncsn.DEEPER}, 7, "ncsnv2", "deeper"),
    "no levels": ("cifar10", {"image_channels": 3}, None, "ncsnv2", "small"),
    "ncsn": ("ncsn_v1", {"image_channels": 3, "levels": 12}, None, "ncsn", "small"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_and_the_levels_are_found(files, tmp_path, kind):
    preset, entries, levels, network, stages = KINDS[kind]
    state = state_of(**entries) | ({"sigmas": sigmas(n=levels)} if levels else {})
    config = import_weights.Config(
        checkpoint=stored(files, tmp_path / "x", {}), workdir=tmp_path, preset=preset
    )
    made = import_weights.configuration(config, state, STEP)
    assert (made.network, made.stages, made.channels, made.steps) == (network, stages, 4, STEP)
    recipe = PRESETS[preset]
    if levels:
        assert (made.levels, made.sigma_max, made.sigma_min) == (7, 20.0, 0.01)  # and not 0.0099999998
    else:
        assert (made.sigma_max, made.sigma_min) == (recipe.sigma_max, recipe.sigma_min)
        assert made.levels == entries.get("levels", recipe.levels)
    assert (made.epsilon, made.langevin_steps) == (recipe.epsilon, recipe.langevin_steps)
    assert (made.mode, made.ablate) == ("sample", False)
    # And it is the network that the parameters fit.
    assert importers.ncsn.params(ncsn.score_network(made)[0], state)

    # The command that is printed has the very same flags.
    words = shlex.split(import_weights.command(made))
    assert words[:3] == ["python", "-m", "experiments.ncsn"]
    chosen = PRESETS[flags.choose("preset", PRESETS, "fashion", words[3:])]
    assert flags.parse(chosen, words[3:]) == made


def test_the_command_that_is_printed_has_any_folder(tmp_path):
    made = dataclasses.replace(
        PRESETS["digits"], workdir=tmp_path / "it's a folder", mode="sample", ablate=False
    )
    words = shlex.split(import_weights.command(made))[3:]
    assert words == ["--preset", "digits", "--workdir", str(made.workdir), "--mode", "sample", "--no-ablate"]


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
    made = import_weights.configuration(config, state, step)
    recipe = PRESETS["digits"]
    assert made.steps == recipe.steps  # of which the file says nothing
    assert (made.levels, made.sigma_max, made.sigma_min) == (
        recipe.levels,
        recipe.sigma_max,
        recipe.sigma_min,
    )


# What is refused ------------------------------------------------------------------------------


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


BAD = {
    # name: the file's contents, the preset, what the line says
    "no key": (
        tensors(without(state_of(), "normalizer.alpha")),
        "digits",
        "no 'normalizer.alpha', which NCSNv2 needs",
    ),
    "a key too many": (
        tensors({**state_of(), "extra": np.zeros(3)}),
        "digits",
        "has 'extra', which NCSNv2 does not",
    ),
    "another shape": (
        tensors({**state_of(), "end_conv.bias": np.zeros(2)}),
        "digits",
        r"'end_conv.bias' as \(2,\)",
    ),
    "something else": ([1, {"weights": Tensor([1.0])}], "digits", "holds no state dict of NCSN or NCSNv2"),
    "a number": (3, "digits", "holds no state dict of NCSN or NCSNv2"),
    "grey images": (tensors(state_of()), "cifar10", "--preset cifar10: has images of 3 channels, .* of 1$"),
    "NCSN": (
        tensors(state_of(levels=10)),
        "digits",
        "--preset digits: is a recipe of ncsnv2, .* holds ncsn$",
    ),
    "NCSNv2": (tensors(state_of()), "mnist", "--preset mnist: is a recipe of ncsn, .* holds ncsnv2$"),
    "even levels": (
        tensors({**state_of(), "sigmas": np.linspace(5, 0.01, 9)}),
        "digits",
        "its noise levels are not geometric",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_does_not_fit_is_one_line_and_writes_nothing(files, tmp_path, monkeypatch, capsys, name):
    contents, preset, said = BAD[name]
    path = stored(files, tmp_path / "x.pth", contents)
    words = ["--checkpoint", str(path), "--workdir", str(tmp_path / "run"), "--preset", preset]
    assert_refused(monkeypatch, capsys, words, said)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def assert_refused(monkeypatch, capsys, words, said):
    monkeypatch.setattr("sys.argv", ["import_weights", *words])
    with pytest.raises(SystemExit) as stop:
        import_weights.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(FlagError, match=said):
        raise FlagError(error.strip())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--checkpoint DAMAGED --workdir run",
            "cannot read it: Weights only load failed. Wrong magic number",
        ),
        ("--checkpoint absent.pth --workdir run", "--checkpoint absent.pth: is no file"),
        (
            "--checkpoint DAMAGED --workdir run --preset imagenet",
            "--preset imagenet: is not known; use digits, ",
        ),
        ("--workdir run", "missing: --checkpoint"),
        ("--checkpoint DAMAGED --workdir occupied", "--workdir occupied: holds a run already"),
    ],
)
def test_bad_input_is_one_line_and_status_2(files, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.pth").write_text("no checkpoint")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "config.json").write_text("{}")
    assert_refused(monkeypatch, capsys, words.replace("DAMAGED", "damaged.pth").split(), said)
    assert not (tmp_path / "run").exists()


def test_without_torch_the_line_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "x.pth"
    path.write_text("a checkpoint")
    words = ["--checkpoint", str(path), "--workdir", str(tmp_path / "run")]
    assert_refused(monkeypatch, capsys, words, r"not installed: pip install 'jaxscore\[torch\]'$")
    assert not (tmp_path / "run").exists()


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
