"""Bad input to the experiments' commands is one line, status 2, and nothing is written."""

import importlib

import pytest

from jaxscore.launch import flags
from jaxscore.launch.flags import FlagError

OUT_OF_RANGE = [
    # module, a value and what it must be, the flags that refuse it
    ("bench.run", "0: must be at least 1", "repeats"),
    ("calibrate", "0.0: must be above 0", "overlap"),
    ("calibrate", "1.2: must be below 0.997", "overlap"),
    ("calibrate", "nan: must ", "overlap"),
    ("calibrate", "0: must ", "langevin-steps"),
    ("calibrate", "0.0: must ", "sigma-min"),
    ("calibrate", "1: must ", "levels"),
    ("classifier", "0: must be at least 1", "width depth grey-values classifiers"),
    ("classifier", "1: must be at least 2", "levels"),
    ("classifier", "9: must be at least 10", "samples"),
    ("classifier", "-1.0: must be at least 0", "scales held-out"),
    ("classifier", "1.0: must be below 1", "held-out"),
    ("classifier", "0.0: must be above 0", "sigma-std sigma-min"),
    ("classifier", "0.001: must exceed --sigma-min 0.02", "sigma-max"),
    ("classifier", "inf: must be a finite number", "scales sigma-mean"),
    ("cost.run", "0: must be at least 1", "sizes width batch repeats probes"),
    ("cost.run", "0.0: must be above 0", "memory-limit-gb"),
    ("cost.run", "-1.0: must be above 0", "seconds-limit"),
    ("cost.run", "inf: must be a finite number", "seconds-limit"),
    ("digits", "0: must be at least 1", "grey-values width depth classifiers langevin.steps"),
    ("digits", "1: must be at least 2", "heun.levels langevin.levels"),
    ("digits", "3: must be at least 4", "samples"),
    ("digits", "-0.1: must be above 0", "heun.sigma-min"),
    ("digits", "0.0: must be above 0", "sigma-std langevin.sigma-min"),
    ("digits", "0.0: must be above 0", "langevin.step-size"),
    ("digits", "2.0: must be below 2", "langevin.step-size"),
    ("digits", "0.001: must exceed --heun.sigma-min 0.02", "heun.sigma-max"),
    ("digits", "0.001: must exceed --langevin.sigma-min", "langevin.sigma-max"),
    ("digits", "-0.1: must be at least 0", "dropout p-uncond"),
    ("digits", "1.0: must be below 1", "dropout p-uncond"),
    ("digits", "3: needs --conditional", "label"),
    ("digits", "0.5: needs --conditional", "p-uncond"),
    ("digits", "2.0: needs --conditional", "guidance-scale"),
    ("ema", "0.0: must be above 0", "sigma-rel"),
    ("ema", "0.289: must be at most 0.2887", "sigma-rel"),
    ("ema", "nan: must be a finite number", "sigma-rel"),
    ("ncsn.experiment", "0: must be at least 1", "langevin-steps channels size grey-values classifiers"),
    ("ncsn.experiment", "1: must be at least 2", "levels"),
    ("ncsn.experiment", "3: must be at least 4", "samples reference"),
    ("ncsn.experiment", "0.0: must be above 0", "sigma-min"),
    ("ncsn.experiment", "nan: must be a finite number", "sigma-min"),
    ("ncsn.experiment", "0.01: must exceed --sigma-min 0.01", "sigma-max"),
    ("ncsn.experiment", "0.0: must be above 0", "epsilon"),
    ("ncsn.experiment", "0.0002: must be below 2 sigma-min^2", "epsilon"),
    ("ncsn.experiment", "inf: must be a finite number", "epsilon"),
    ("plan.run", "2.0: must be at most 1", "effort"),
    ("plan.run", "0: must be at least 1", "batch-size"),
    ("plan.run", "0: must be -1, or at least 1", "fsdp"),
    ("posterior.run", "0: must be at least 1", "measurements"),
    ("posterior.run", "1: must be at least 2", "levels problems"),
    ("posterior.run", "7: must be even", "dimensions"),
    ("posterior.run", "15: must be at least 16", "draws"),
    ("sbi", "0: must be at least 1", "width depth embedding keep-best c2st-observations"),
    ("sbi", "1: must be at least 2", "sampling.levels calibration.draws calibration.density-draws"),
    ("sbi", "6: must be at least 7", "calibration.simulations"),
    ("sbi", "6: must be 0, or at least 7", "calibration.densities"),
    ("sbi", "19: must be at least 20", "simulations"),
    ("sbi", "9: must be at least 10", "c2st-draws"),
    ("sbi", "10001: must be at most 10000", "c2st-draws"),
    ("sbi", "0.0: must be above 0", "sigma-std sampling.sigma-min"),
    ("sbi", "0.0: must be at least 1e-06", "calibration.tolerance"),
    ("sbi", "0.001: must exceed --sampling.sigma-min 0.002", "sampling.sigma-max"),
    ("sbi", "1.0: must be below 1", "dropout held-out"),
    ("restore", "0: must be at least 1", "images factor angles batch"),
    ("restore", "1: must be at least 2", "samples levels"),
    ("restore", "-0.1: must be at least 0", "noise"),
    ("restore", "1.5: must be at most 1", "fraction"),
    ("restore", "-1: must be at least 0", "seed"),
    ("restore", f"{2**32}: must be below {2**32}", "seed"),
    ("theorems.run", "5: must be at least 10", "blocks"),
    ("theorems.run", "1: must be at least 2", "thetas"),
    ("theorems.run", "99: must be at least 100", "draws"),
    ("theorems.run", "-1.0: must be above 0", "sigma"),
    ("theorems.run", "nan: must be a finite number", "sigma"),
    ("toy2d", "0: must be at least 1", "points width depth langevin-steps"),
    ("toy2d", "1: must be at least 2", "levels"),
    ("toy2d", "0.0: must be above 0", "sigma-min"),
    ("toy2d", "0.01: must exceed --sigma-min 0.15", "sigma-max"),
    ("toy2d", "0.0: must be above 0", "weight step-size"),
    ("toy2d", "1.0: must be below 1", "weight"),
    ("toy2d", "2.0: must be below 2", "step-size"),
    ("trilemma.run", "0: must be at least 1", "seeds"),
    ("trilemma.run", "3: must be at least 4", "samples"),
    ("trilemma.run", "0.0: must be above 0", "tflops"),
    ("families.gan", "0: must be at least 1", "width latent interval group"),
    ("families.gan", "3: must be at least 4", "samples"),
    ("families.gan", "-1: must be at least 0", "octaves"),
    ("families.gan", "-1.0: must be at least 0", "penalty"),
    ("families.ddgan", "0: must be at least 1", "denoising-steps"),
    ("families.vae", "0: must be at least 1", "probes"),
    ("families.flow", "0: must be at least 1", "layers"),
    ("families.flow", "-1: must be at least 0", "knots"),
    ("families.flow", "0.0: must be above 0", "reach"),
    ("families.ddpm", "0: must be at least 2", "ddim-steps"),
    ("families.ddpm", "1: must be at least 2", "ancestral-steps"),
    ("families.ddpm", "0.0: must be above 0", "t-min"),
    ("families.ncsn", "0: must be at least 1", "langevin-steps"),
    ("families.ncsn", "1: must be at least 2", "levels"),
    ("families.ncsn", "2.0: must be below 2", "step-size"),
    ("families.edm", "0.0: must be above 0", "sigma-std"),
    ("families.consistency", "1.5: must be at most 1", "teacher"),
    ("families.consistency", "0.0: must be above 0", "sigma-middle student-std"),
    ("families.consistency", "50.0: must lie between sigma-min and sigma-max", "sigma-middle"),
    ("families.consistency", "5: must be at least 10, the first-cells", "last-cells"),
    ("families.reflow", "1: must be at least 2", "levels"),
    ("families.reflow", "3: must divide the batch 128", "copies"),
    ("families.reflow", "0.0: must be above 0", "shift"),
]

REFUSED = [
    # module, its flags, what is said of them
    ("bench.run", "--workloads nope", "--workloads nope: is not known; use digits, ncsnv2"),
    ("bench.run", "--scaling nope", "--scaling nope: is not known; use digits, ncsnv2"),
    ("calibrate", "--overlpa 0.5", "Unrecognized options: --overlpa"),
    ("classifier", "--scales 1 1", "--scales 1.0 1.0: has a scale twice"),
    ("cost.run", "--sizes 4 -2", "--sizes -2: must be at least 1"),
    ("cost.run", "--sizes", "--sizes: needs at least one number"),
    ("digits", "--conditions age sex", "--conditions age sex: needs --conditional"),
    ("ema", "--sigma-rel", "--sigma-rel: needs at least one width"),
    ("ema", "--sigma-rel 0.05 0", "--sigma-rel 0.0: must be above 0"),
    ("ema", "--sigma-rel 0.1 0.1", "--sigma-rel 0.1 0.1: has a width twice"),
    ("restore", "--known middle", "--known"),
    ("restore", "--problem denoise", "--problem"),
    ("ncsn.experiment", "--network unet", "--network"),
    ("ncsn.experiment", "--stages deep", "--stages"),
    ("ncsn.experiment", "--precision float16", "--precision"),
    ("ncsn.experiment", "--start zeros", "--start"),
    ("ncsn.experiment", "--mode smaple", "--mode"),
    ("ncsn.experiment", "--shape 28 28", "--shape"),
    ("ncsn.experiment", "--shape 28 0 1", "--shape 0: must be at least 1"),
    ("ncsn.experiment", "--langevin-stpes 3", "perhaps --langevin-steps "),
    ("plan.run", "--topology", "--topology: needs a value"),
    ("posterior.run", "--dimensions", "--dimensions: needs at least one number"),
    ("posterior.run", "--dimensions 8 --measurements 9", "--measurements 9: must be at most --dimensions 8"),
    ("posterior.run", "--methods pigdm", "--methods 'pigdm': must be among 'exact score, Heun', "),
    ("sbi", "--task two_suns", "two_suns"),
    ("sbi", "--held-out 0", "--held-out 0.0: leaves 0 of 30000 simulations"),
    ("sbi", "--simulatoins 100", "perhaps --simulations"),
    ("trilemma.run", "--families gan,gann", "--families gan,gann: 'gann' is not known; use gan,vae"),
    ("trilemma.run", "--denoising-steps 4 0", "--denoising-steps 0: must be at least 1"),
    ("families.gan", "--convolutions.channels 0", "--convolutions.channels 0: must be at least 1"),
    ("families.edm", "--levels 18 1", "--levels 1: must be at least 2"),
    ("families.edm", "--sigma-min 50", "--sigma-max 40.0: must exceed --sigma-min 50.0"),
]
REFUSED += [
    (module, f"--{flag} {said.split(':')[0]}", f"--{flag} {said}")
    for module, said, names in OUT_OF_RANGE
    for flag in names.split()
]


@pytest.mark.parametrize(("module", "words", "said"), REFUSED)
def test_flags_that_cannot_be_are_one_line(module, words, said):
    with pytest.raises(FlagError) as caught:
        flags.parse(importlib.import_module(f"experiments.{module}").Config(), words.split())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("module", "words", "said"), {case[0]: case for case in REFUSED}.values())
def test_a_command_exits_with_2_and_writes_nothing(module, words, said, refused):
    assert said in refused(module, words)


@pytest.mark.parametrize(
    ("module", "words"),
    [("calibrate", "--data digits"), ("cost.run", ""), ("theorems.run", ""), ("trilemma.run", "")],
)
def test_the_folder_of_another_run_is_refused(module, words, tmp_path, refused):
    (tmp_path / "config.json").write_text('{"experiment": "digits"}')
    said = f"--workdir {tmp_path}: holds a run of digits; name another folder\n"
    assert refused(module, f"{words} --workdir {tmp_path}") == said


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("calibrate", "--data mnits", "data set 'mnits' is not known"),
        ("calibrate", "--data mnist --data-dir nowhere", "no data set 'mnist' in nowhere"),
        ("digits", "--data npz:/nowhere.npz", "no data at /nowhere.npz"),
        ("families.gan", "--data nonsense", "--data nonsense: "),
        ("trilemma", "--data nonsense --workdir x", "--data nonsense: "),
    ],
)
def test_data_that_are_not_there_are_named(module, words, said, refused):
    assert refused(module, words).startswith(said)
