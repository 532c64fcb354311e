"""Flags and configurations that are damaged in any way: a clear line, or what was meant, nothing else."""

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.digits.experiment import Config
from experiments.ncsn import config as ncsn_config
from jaxscore.launch import flags, workdir
from jaxscore.launch.config import Config as BaseConfig
from jaxscore.launch.config import restored
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal

open_run = sys.modules["jaxscore.launch.open_run"]  # `launch.open_run` is the function

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
    experiment, refused = outcome(lambda: open_run.described(folder, *open_run.find(folder)))
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fields:
    count: int = 1
    rate: float = 1.0
    flag: bool = False
    kept: int | None = None
    place: Path | None = None
    form: Literal["linear", "cosine"] = "linear"
    shape: tuple[int, int] = (1, 2)
    widths: tuple[int, ...] = (1,)
    stages: tuple[tuple[int, int], ...] = ()


ALLOWED = [
    {"rate": 2, "kept": 3, "flag": True, "place": "a/b", "form": "cosine"},
    {"shape": [3, 4], "widths": [], "stages": [[1, 2], [3, 4]]},
    {"widths": [3, 4, 5]},
]
WRONG = [
    *[{"count": value} for value in (1.5, True, "1", None, [1])],
    *[{"rate": value} for value in (True, "1", None)],
    *[{"flag": value} for value in (1, "True")],
    *[{"kept": value} for value in (1.5, False)],
    *[{"place": value} for value in (3, ["a"])],
    {"form": "square"},
    *[{"shape": value} for value in ([1], [1, 2, 3], [1, True])],
    *[{"widths": value} for value in (3, "12", {"1": 2}, [1, "2"])],
    {"stages": [[1, 2], [3]]},
    {"colour": "red"},
    {"colour": {}},
]


@pytest.mark.parametrize("fields", ALLOWED)
def test_fields_of_their_types_are_restored(fields):
    again = json.loads(json.dumps(dataclasses.asdict(restored(Fields, fields)), default=str))
    assert again == json.loads(json.dumps(dataclasses.asdict(Fields()))) | fields


@pytest.mark.parametrize("fields", WRONG)
def test_fields_of_other_types_and_names_are_refused(fields):
    (name,) = fields
    with pytest.raises(TypeError, match=name) as caught:
        restored(Fields, fields)
    assert "\n" not in str(caught.value)


def test_wrong_fields_and_values_are_found_in_nested_classes():
    with pytest.raises(TypeError, match="no field 'colour'"):
        restored(BaseConfig, {"workdir": "a", "optimizer": {"colour": "red"}})
    with pytest.raises(TypeError, match=r"> 0.0 - at `\$.optimizer.learning_rate`"):
        restored(BaseConfig, {"workdir": "a", "optimizer": {"learning_rate": -1.0}})
