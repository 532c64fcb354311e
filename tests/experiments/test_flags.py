import dataclasses
from pathlib import Path

import pytest

from experiments import config, digits, flags, toy2d
from experiments.flags import FlagError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Levels:
    """Noise levels."""

    sigma_min: float = 0.1
    """The last."""
    sigma_max: float = 10.0
    """The first."""

    def __post_init__(self):
        flags.require_sigmas(self.sigma_min, self.sigma_max, prefix="levels.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
    """For the tests."""

    workdir: Path = Path("unused")
    levels: Levels = dataclasses.field(default_factory=Levels)


def refused(*arguments: str) -> str:
    """The text of the error; one line, whatever the arguments."""
    with pytest.raises(FlagError) as caught:
        flags.parse(Config(), list(arguments))
    text = str(caught.value)
    assert "\n" not in text
    assert "\x1b" not in text
    assert not set("╭╮╰╯│─") & set(text)
    assert text == text.strip()
    return text


def test_no_flags_are_the_defaults():
    assert flags.parse(Config(), []) == Config()


def test_flags_replace_the_defaults_and_nothing_else():
    arguments = "--steps 7 --mode train --workdir /tmp/x --optimizer.learning-rate 3e-4 --levels.sigma-max 5"
    expected = Config(
        steps=7,
        mode="train",
        workdir=Path("/tmp/x"),
        optimizer=config.Optimizer(learning_rate=3e-4),
        levels=Levels(sigma_max=5.0),
    )
    assert flags.parse(Config(), arguments.split()) == expected


def test_flags_keep_nested_defaults_that_differ_from_those_of_their_class():
    defaults = Config(optimizer=config.Optimizer(learning_rate=0.5, warm_up=3))
    parsed = flags.parse(defaults, ["--optimizer.warm-up", "4"])
    assert parsed.optimizer == config.Optimizer(learning_rate=0.5, warm_up=4)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("--stpes", "--steps"),
        ("--sample-bach", "--sample-batch"),
        ("--optimizer.learning-rat", "--optimizer.learning-rate"),
        ("--learning-rate", "--optimizer.learning-rate"),
        ("--levels.sigma-mim", "--levels.sigma-min"),
    ],
)
def test_a_misspelt_flag_is_named_with_the_one_that_was_meant(misspelt, meant):
    text = refused(misspelt, "3")
    assert misspelt in text
    assert f"perhaps {meant} " in text


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--steps", "abc"),
        ("--steps", "3.5"),
        ("--batch", "1e3"),
        ("--ema-decay", "high"),
        ("--optimizer.learning-rate", "fast"),
        ("--levels.sigma-min", "low"),
        ("--mode", "trian"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_flag(flag, value):
    text = refused(flag, value)
    assert flag in text
    assert value in text


@pytest.mark.parametrize("flag", ["--steps", "--workdir", "--optimizer.learning-rate", "--mode"])
def test_a_missing_value_is_named_by_its_flag(flag):
    assert flag in refused(flag)
    assert flag in refused(flag, "--seed", "1")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--steps", "0"),
        ("--batch", "-8"),
        ("--samples", "0"),
        ("--seed", "-1"),
        ("--seed", str(2**32)),
        ("--ema-decay", "1.0"),
        ("--optimizer.learning-rate", "-0.001"),
        ("--optimizer.learning-rate", "nan"),
        ("--optimizer.decay", "1.5"),
        ("--optimizer.b2", "1.0"),
        ("--levels.sigma-min", "-1.0"),
        ("--levels.sigma-min", "0.0"),
        ("--levels.sigma-min", "nan"),
        ("--levels.sigma-max", "nan"),
        ("--levels.sigma-max", "0.01"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_flag_and_the_remedy(flag, value):
    assert refused(flag, value).startswith(f"{flag} {value}: must ")


def test_sigmas_out_of_order_name_both():
    text = refused("--levels.sigma-min", "20.0", "--levels.sigma-max", "2.0")
    assert text == "--levels.sigma-max 2.0: must exceed --levels.sigma-min 20.0"
    assert refused("--levels.sigma-min", "10.0").startswith("--levels.sigma-max 10.0: ")


def test_a_word_that_is_no_flag_is_named():
    assert "surplus" in refused("surplus")


def test_a_long_value_is_still_one_line():
    # Wider than the box of the parser's message, which wraps it.
    assert refused("--steps", "x" * 300).startswith("Error parsing --steps: invalid literal for int()")


def test_require_names_the_flag_as_it_is_typed():
    flags.require(True, "log_every", 0, "unused")
    with pytest.raises(FlagError, match=r"^--log-every 0: must be at least 1$"):
        flags.require(False, "log_every", 0, "must be at least 1")


def names(fields_of, prefix="--"):
    for field in dataclasses.fields(fields_of):
        name, value = prefix + field.name.replace("_", "-"), getattr(fields_of, field.name)
        if dataclasses.is_dataclass(value):
            yield from names(value, name + ".")
        else:
            yield name


@pytest.mark.parametrize("defaults", [Config(), toy2d.Config(), digits.Config()])
def test_help_lists_every_field_and_exits_with_0(defaults, capsys):
    with pytest.raises(SystemExit) as caught:
        flags.parse(defaults, ["--help"])
    assert caught.value.code in (0, None)
    words = capsys.readouterr().out.replace(",", " ").split()
    expected = list(names(defaults))
    assert len(expected) > 12
    assert [name for name in expected if name not in words] == []


@pytest.mark.parametrize("module", [toy2d, digits])
def test_every_field_of_an_experiment_can_be_set_from_its_own_default(module):
    defaults = module.Config()
    arguments = []
    for name in names(defaults):
        value = defaults
        for part in name.removeprefix("--").replace("-", "_").split("."):
            value = getattr(value, part)
        if isinstance(value, bool):
            arguments.append(name if value else name.replace("--", "--no-"))
        else:
            arguments += [name, str(value)]
    assert flags.parse(defaults, arguments) == defaults
