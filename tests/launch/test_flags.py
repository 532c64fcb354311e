import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest

from experiments import restore, toy2d
from experiments.digits import experiment as digits
from experiments.ncsn import config as ncsn_config
from jaxscore.launch import config, flags
from jaxscore.launch.flags import FlagError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Levels:
    """Noise levels."""

    sigma_min: flags.Positive = 0.1
    """The last."""
    sigma_max: float = 10.0
    """The first."""

    def __post_init__(self):
        flags.check(self, "levels.")
        flags.require_sigmas(self.sigma_min, self.sigma_max, prefix="levels.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
    """For the tests."""

    workdir: Path = Path("unused")
    levels: Levels = dataclasses.field(default_factory=Levels)


def refused(*arguments: str, defaults=None) -> str:
    """The text of the error; one line, whatever the arguments."""
    with pytest.raises(FlagError) as caught:
        flags.parse(defaults or Config(), list(arguments))
    text = str(caught.value)
    assert not set("╭╮╰╯│─\n\x1b") & set(text)
    assert text == text.strip()
    return text


def test_flags_replace_the_defaults_and_nothing_else():
    arguments = "--steps 7 --mode train --workdir /tmp/x --optimizer.learning-rate 3e-4 --levels.sigma-max 5"
    nested = {"optimizer": config.Optimizer(learning_rate=3e-4), "levels": Levels(sigma_max=5.0)}
    expected = Config(steps=7, mode="train", workdir=Path("/tmp/x"), **nested)
    assert flags.parse(Config(), arguments.split()) == expected


def test_flags_keep_other_defaults():
    """These differ from the defaults of their class."""
    defaults = Config(optimizer=config.Optimizer(learning_rate=0.5, warm_up=3))
    assert flags.parse(defaults, []) == defaults
    expected = config.Optimizer(learning_rate=0.5, warm_up=4)
    assert flags.parse(defaults, ["--optimizer.warm-up", "4"]) == Config(optimizer=expected)


MISSPELT = {
    "--stpes": "--steps",
    "--sample-bach": "--sample-batch",
    "--levels.sigma-mim": "--levels.sigma-min",
}
MISSPELT |= dict.fromkeys(["--optimizer.learning-rat", "--learning-rate"], "--optimizer.learning-rate")


@pytest.mark.parametrize(("flag", "meant"), MISSPELT.items())
def test_a_misspelt_flag_is_named_with_the_flag_that_was_meant(flag, meant):
    text = refused(flag, "3")
    assert flag in text
    assert f"perhaps {meant} " in text


WRONG = ["--steps abc", "--steps 3.5", "--batch 1.5e0", "--ema-decay high", "--optimizer.learning-rate fast"]
WRONG += ["--mode trian", "--steps", "surplus"]


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_value_is_named_with_its_flag(words):
    text = refused(*words.split())
    assert all(word in text for word in words.split())


@pytest.mark.parametrize("flag", ["--workdir", "--mode"])
def test_a_flag_without_its_value_is_named(flag):
    assert flag in refused(flag, "--seed", "1")


def test_a_message_that_the_parser_wraps_is_one_line():
    assert refused("--steps", "x" * 300).endswith("xxx: must be an integer")


OUT_OF_RANGE = ["--steps 0", "--optimizer.learning-rate nan", "--levels.sigma-min -1.0"]
OUT_OF_RANGE += ["--levels.sigma-min 0.0", "--levels.sigma-min nan"]
OUT_OF_RANGE += ["--levels.sigma-max nan", "--levels.sigma-max 0.01"]


@pytest.mark.parametrize("words", OUT_OF_RANGE)
def test_a_value_out_of_range_is_named_with_flag_and_remedy(words):
    """The file test_config.py tries which values are out of range."""
    assert refused(*words.split()).startswith(f"{words}: must ")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Narrower(Config):
    """Restates a field without its bounds, and has bounds in other places."""

    steps: int = 5
    sizes: tuple[flags.Count, ...] = (1, 2)
    tail: flags.Fraction | None = None
    pair: tuple[flags.Count, flags.Positive] = (1, 0.5)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"steps": 0}, "--steps 0: must be at least 1"),
        ({"sizes": (3, 0)}, "--sizes 0: must be at least 1"),
        ({"tail": 1.0}, "--tail 1.0: must be below 1"),
        ({"tail": -0.5}, "--tail -0.5: must be at least 0"),
        ({"pair": (1, 0.0)}, "--pair 0.0: must be above 0"),
        ({"steps": 10**400}, f"--steps {10**400}: must be below {2**31}"),
        ({"steps": np.int64(0)}, "--steps 0: must be at least 1"),
        ({"ema_halflife": np.float32("nan")}, "--ema-halflife nan: must be a finite number"),
    ],
)
def test_bounds_hold_in_tuples_and_options_and_are_inherited(fields, text):
    assert Narrower(tail=0.0, sizes=()).steps == 5
    with pytest.raises(FlagError) as caught:
        Narrower(**fields)
    assert str(caught.value) == text


def test_sigmas_out_of_order_name_both():
    text = refused("--levels.sigma-min", "20.0", "--levels.sigma-max", "2.0")
    assert text == "--levels.sigma-max 2.0: must exceed --levels.sigma-min 20.0"
    assert refused("--levels.sigma-min", "10.0").startswith("--levels.sigma-max 10.0: ")


@pytest.mark.parametrize("words", ["--stpes 3", "--steps 0", *WRONG])
def test_where_the_output_is_not_utf_8_the_line_is_the_same(words, monkeypatch):
    lines = []
    for encoding in ("utf-8", "ascii"):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        lines.append(refused(*words.split()))
    assert lines[0] == lines[1]


def test_require_names_the_flag_as_it_is_typed():
    flags.require(True, "log_every", 0, "unused")
    for value, text in ((0, "--log-every 0: needs more"), ("", "--log-every: needs more")):
        with pytest.raises(FlagError, match=f"^{text}$"):
            flags.require(False, "log_every", value, "needs more")


# Flags that must be given ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Required:
    """Two that must be given, and one that need not."""

    source: Path
    """Where from."""
    count: int
    """How many."""
    seed: int = 0
    """Which."""

    def __post_init__(self):
        flags.require(self.count > 0, "count", self.count, "must be positive")


def test_a_class_has_flags_that_must_be_given():
    words = ["--source", "/tmp/x", "--count", "3"]
    assert flags.parse(Required, words) == Required(source=Path("/tmp/x"), count=3)
    assert flags.parse(Required, [*words, "--seed", "4"]).seed == 4


LACKING = {
    "": r"^missing: --source PATH .*--count INT ",
    "--source x": r"^missing: --count INT ",
    "--source x --cuont 3": r"^missing: --count INT .*--cuont",
    "--source x --count many": r"--count.*many",
    "--source x --count 0": r"^--count 0: must be positive$",
}


@pytest.mark.parametrize(("words", "said"), LACKING.items())
def test_what_is_missing_or_wrong_of_a_class_is_one_line(words, said):
    text = refused(*words.split(), defaults=Required)
    assert re.search(said, text)
    assert str(Path.cwd()) not in text


# The flag that is looked at first -------------------------------------------------------------


# Misspelt, it is left to `parse`, which says so.
SMALL = ["", "--steps 3 --no-flip --sigma-min -1", "--presets large", "--pre large", "--help"]
LARGE = ["--preset large", "--preset=large", "--steps 3 --preset large --seed 1"]
LARGE += ["--no-flip --preset=large surplus", "--preset small --preset large"]


@pytest.mark.parametrize(
    ("words", "chosen"), [*((words, "small") for words in SMALL), *((words, "large") for words in LARGE)]
)
def test_choose_looks_at_one_flag(words, chosen):
    assert flags.choose("preset", ("small", "large"), "small", words.split()) == chosen


UNKNOWN = dict.fromkeys(["--preset huge", "--preset=huge --seed 1"], "--preset huge: is not known")
UNKNOWN |= dict.fromkeys(["--preset", "--preset=", "--preset --seed 1"], "--preset: needs a value")


@pytest.mark.parametrize(("words", "said"), UNKNOWN.items())
def test_choose_names_the_choices(words, said):
    with pytest.raises(FlagError, match=f"^{said}; use small, large$"):
        flags.choose("preset", {"small": 1, "large": 2}, "small", words.split())


def test_choose_reads_the_command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["program", "--preset", "large"])
    assert flags.choose("preset", ("small", "large"), "small") == "large"


# Help -----------------------------------------------------------------------------------------


def names(fields_of, prefix="--"):
    for field in dataclasses.fields(fields_of):
        name, value = prefix + field.name.replace("_", "-"), getattr(fields_of, field.name)
        if dataclasses.is_dataclass(value):
            yield from names(value, name + ".")
        else:
            yield name


EXPERIMENTS = [Config(), toy2d.Config(), digits.Config(), restore.Config(), *ncsn_config.PRESETS.values()]


@pytest.mark.parametrize("defaults", EXPERIMENTS)
def test_help_lists_every_field_and_exits_with_0(defaults, capsys):
    with pytest.raises(SystemExit) as caught:
        flags.parse(defaults, ["--help"])
    assert caught.value.code in (0, None)
    words = capsys.readouterr().out.replace(",", " ").split()
    expected = list(names(defaults))
    assert len(expected) >= 6
    assert [name for name in expected if name not in words] == []


@pytest.mark.parametrize("defaults", EXPERIMENTS)
def test_every_field_can_be_set_from_its_own_default(defaults):
    arguments = []
    for name in names(defaults):
        value = defaults
        for part in name.removeprefix("--").replace("-", "_").split("."):
            value = getattr(value, part)
        if isinstance(value, tuple):
            arguments += [name, *map(str, value)]
        elif isinstance(value, bool):
            arguments.append(name if value else name.replace("--", "--no-"))
        else:
            arguments += [name, str(value)]
    assert flags.parse(defaults, arguments) == defaults


@pytest.mark.parametrize(("text", "value"), [("1e5", 100_000), ("2.0", 2), ("1_000", 1000)])
def test_an_integer_may_be_written_as_a_number(text, value):
    assert flags.whole(text) == value


@pytest.mark.parametrize("text", ["1.5e0", "1e999999", "nan", "many"])
def test_what_is_no_integer_is_refused(text):
    with pytest.raises(ValueError, match="invalid literal for int"):
        flags.whole(text)
