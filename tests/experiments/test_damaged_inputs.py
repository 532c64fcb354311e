"""Flags and configurations that are damaged in any way: a clear line, or what was meant, nothing else."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import ema
from experiments.digits.experiment import Config
from experiments.ncsn import config as ncsn_config
from jaxscore.launch import flags, workdir
from jaxscore.launch.config import Config as BaseConfig
from jaxscore.launch.config import fits, restored
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal

PROFILE = settings(max_examples=60, deadline=None, derandomize=True)

NAMES = [field.name.replace("_", "-") for field in dataclasses.fields(Config)]
NAMES += ["optimizer.learning-rate", "mesh.fsdp", "heun.levels", "langevin.levels", "stepz", "", "-", "mode"]

VALUES = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.sampled_from(["", " ", "nan", "inf", "-inf", "1e999", "None", "True", "0x10", "1_000", "--", "[1]"]),
    # What a shell can pass on: no NUL.
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20),
)

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def outcome(function) -> tuple:
    """(its value, None) or (None, the one line by which it is refused)."""
    try:
        return function(), None
    except (FlagError, Refusal) as error:
        text = str(error)
    assert "\n" not in text
    return None, text


def assert_sound(config: BaseConfig) -> None:
    """What a configuration that is accepted can be relied on for."""
    assert config.steps >= 1
    assert config.batch >= 1
    assert 0 <= config.seed < 2**32
    assert math.isfinite(config.optimizer.learning_rate)
    assert config.optimizer.learning_rate > 0
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        assert not isinstance(value, float) or math.isfinite(value)


@PROFILE
@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), min_size=1, max_size=3))
def test_any_flags_are_a_sound_configuration_or_one_line(pairs):
    arguments = [word for name, value in pairs for word in (f"--{name}", value)]
    if {"-h", "--help"} & set(arguments):
        return
    config, refused = outcome(lambda: flags.parse(Config(), arguments))
    assert refused is None or ("Traceback" not in refused and refused)
    if config is not None:
        assert_sound(config)


def described() -> dict:
    return json.loads(json.dumps(workdir.describe("digits", Config())))


@PROFILE
@given(st.data())
def test_any_config_json_is_a_sound_configuration_or_one_line(tmp_path_factory, data):
    folder, whole = tmp_path_factory.mktemp("run"), described()
    kind = data.draw(st.sampled_from(["value", "missing", "extra", "nested", "text", "other"]))
    name = data.draw(st.sampled_from(sorted(whole)))
    if kind == "value":
        whole[name] = data.draw(JSON)
    elif kind == "missing":
        del whole[name]
    elif kind == "extra":
        whole[data.draw(st.text(max_size=8))] = data.draw(JSON)
    elif kind == "nested":
        whole["optimizer"] = {**whole["optimizer"], "learning_rate": data.draw(JSON)}
    text = json.dumps(whole if kind != "other" else data.draw(JSON))
    if kind == "text":
        text = text[: data.draw(st.integers(0, len(text) - 1))]
    (folder / "config.json").write_text(text)
    experiment, refused = outcome(lambda: ema.experiment_of(folder))
    assert refused is None or str(folder) in refused
    if experiment is not None:
        assert_sound(experiment.config)
    changed, refused = outcome(lambda: workdir.claim(folder, described()))
    assert refused is None or str(folder) in refused
    assert changed is None or all(isinstance(line, str) for line in changed)
    assert (folder / "config.json").read_text() == text


@pytest.mark.parametrize("preset", ncsn_config.PRESETS)
def test_what_a_run_writes_is_what_is_restored(preset, tmp_path):
    config = ncsn_config.PRESETS[preset]
    fields = json.loads(json.dumps(workdir.describe("ncsn", config)))
    del fields["experiment"]
    again = restored(type(config), fields | {"workdir": str(config.workdir), "mode": config.mode})
    assert again == config


@pytest.mark.parametrize(
    ("value", "hint", "fitting"),
    [
        (1, int, True),
        (1, float, True),
        (1.5, int, False),
        (True, int, False),
        (True, bool, True),
        ("1", int, False),
        (None, int | None, True),
        ((1, 2), tuple[int, int], True),
        ((1, 2, 3), tuple[int, int], False),
        ((1, 2, 3), tuple[int, ...], True),
        ((1, "2"), tuple[int, ...], False),
        (3, tuple[int, ...], False),
    ],
)
def test_types_are_looked_at(value, hint, fitting):
    assert fits(value, hint) is fitting
