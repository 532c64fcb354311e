"""Bad input to the experiments' commands is one line, status 2, and nothing is written."""

import importlib

import pytest

from jaxscore import launch
from jaxscore.launch import flags
from jaxscore.launch.flags import FlagError

REFUSED = {
    "bench.run": [
        ("--repeats 0", "--repeats 0: must be at least 1"),
        ("--workloads nope", "--workloads nope: is not known; use digits, ncsnv2"),
        ("--scaling nope", "--scaling nope: is not known; use digits, ncsnv2"),
    ],
    "calibrate": [
        ("--overlap 1.2", "--overlap 1.2: must be below 0.997"),
        ("--overlap 0", "--overlap 0.0: must be above 0"),
        ("--overlap nan", "--overlap nan: must "),
        ("--overlpa 0.5", "Unrecognized options: --overlpa"),
        ("--langevin-steps 0", "--langevin-steps 0: must "),
        ("--sigma-min 0", "--sigma-min 0.0: must "),
        ("--levels 1", "--levels 1: must "),
    ],
    "cost.run": [
        ("--sizes 0", "--sizes 0: must be at least 1"),
        ("--sizes 4 -2", "--sizes -2: must be at least 1"),
        ("--sizes", "--sizes: needs at least one number"),
        ("--width 0", "--width 0: must be at least 1"),
        ("--batch 0", "--batch 0: must be at least 1"),
        ("--repeats 0", "--repeats 0: must be at least 1"),
        ("--probes 0", "--probes 0: must be at least 1"),
        ("--memory-limit-gb 0", "--memory-limit-gb 0.0: must be above 0"),
        ("--seconds-limit -1", "--seconds-limit -1.0: must be above 0"),
        ("--seconds-limit inf", "--seconds-limit inf: must be a finite number"),
    ],
    "theorems.run": [
        ("--blocks 5", "--blocks 5: must be at least 10"),
        ("--sigma -1", "--sigma -1.0: must be above 0"),
        ("--sigma nan", "--sigma nan: must be a finite number"),
        ("--thetas 1", "--thetas 1: must be at least 2"),
        ("--draws 99", "--draws 99: must be at least 100"),
    ],
    "trilemma.run": [
        ("--families gan,gann", "--families gan,gann: 'gann' is not known; use gan,vae"),
        ("--tflops 0", "--tflops 0.0: must be above 0"),
        ("--seeds 0", "--seeds 0: must be at least 1"),
        ("--denoising-steps 4 0", "--denoising-steps 0: must be at least 1"),
        ("--samples 3", "--samples 3: must be at least 4"),
    ],
    "families.gan": [
        ("--width 0", "--width 0: must be at least 1"),
        ("--octaves -1", "--octaves -1: must be at least 0"),
        ("--samples 3", "--samples 3: must be at least 4"),
        ("--convolutions.channels 0", "--convolutions.channels 0: must be at least 1"),
        ("--latent 0", "--latent 0: must be at least 1"),
        ("--interval 0", "--interval 0: must be at least 1"),
        ("--group 0", "--group 0: must be at least 1"),
        ("--penalty -1", "--penalty -1.0: must be at least 0"),
    ],
    "families.ddgan": [("--denoising-steps 0", "--denoising-steps 0: must be at least 1")],
    "families.vae": [("--probes 0", "--probes 0: must be at least 1")],
    "families.flow": [
        ("--layers 0", "--layers 0: must be at least 1"),
        ("--knots -1", "--knots -1: must be at least 0"),
        ("--reach 0", "--reach 0.0: must be above 0"),
    ],
    "families.ddpm": [
        ("--ancestral-steps 1", "--ancestral-steps 1: must be at least 2"),
        ("--ddim-steps 0", "--ddim-steps 0: must be at least 2"),
        ("--t-min 0", "--t-min 0.0: must be above 0"),
    ],
    "families.ncsn": [
        ("--levels 1", "--levels 1: must be at least 2"),
        ("--langevin-steps 0", "--langevin-steps 0: must be at least 1"),
        ("--step-size 2", "--step-size 2.0: must be below 2"),
    ],
    "families.edm": [
        ("--levels 18 1", "--levels 1: must be at least 2"),
        ("--sigma-std 0", "--sigma-std 0.0: must be above 0"),
        ("--sigma-min 50", "--sigma-max 40.0: must exceed --sigma-min 50.0"),
    ],
}
"""Each command has wrong flags, and the beginning of the line that refuses them."""


@pytest.mark.parametrize(
    ("module", "words", "said"), [(module, *case) for module, cases in REFUSED.items() for case in cases]
)
def test_flags_that_cannot_be_are_one_line(module, words, said):
    with pytest.raises(FlagError) as caught:
        flags.parse(importlib.import_module(f"experiments.{module}").Config(), words.split())
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def status_2(module, words, monkeypatch, capsys) -> str:
    """The line on standard error of the command, which exits with status 2."""
    found = importlib.import_module(f"experiments.{module}")
    monkeypatch.setattr("sys.argv", [module, *words.split()])
    with pytest.raises(SystemExit) as stop:
        found.main() if hasattr(found, "main") else launch.main(found.build, found.Config())
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("module", REFUSED)
def test_a_command_exits_with_2_and_writes_nothing(module, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words, said = REFUSED[module][0]
    assert status_2(module, words, monkeypatch, capsys).startswith(f"error: {said}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "words"),
    [("calibrate", "--data digits"), ("cost.run", ""), ("theorems.run", ""), ("trilemma.run", "")],
)
def test_the_folder_of_another_run_is_refused(module, words, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").write_text('{"experiment": "digits"}')
    said = f"error: --workdir {tmp_path}: holds a run of digits; name another folder\n"
    assert status_2(module, f"{words} --workdir {tmp_path}", monkeypatch, capsys) == said


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("calibrate", "--data mnits", "error: data set 'mnits' is not known"),
        ("calibrate", "--data mnist --data-dir nowhere", "error: no data set 'mnist' in nowhere"),
        ("trilemma.run", "--data nonsense --workdir x", "error: --data nonsense: "),
        ("families.gan", "--data nonsense", "error: --data nonsense: "),
    ],
)
def test_data_that_are_not_there_are_named(module, words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert status_2(module, words, monkeypatch, capsys).startswith(said)
