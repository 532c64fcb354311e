import dataclasses
import itertools
import json

import numpy as np
import pytest

from experiments.ncsn import ablation as ncsn_ablation
from experiments.ncsn import experiment as ncsn
from experiments.ncsn import report as ncsn_report
from experiments.ncsn.config import PRESETS
from jaxscore import launch, trainer
from jaxscore.launch import workdir
from tests.experiments.ncsn import tiny as tiny_ncsn
from tests.experiments.pictures import ink
from tests.launch.tiny import RENEWED, snapshot

DIGITS = PRESETS["digits"]
VARIANTS = ncsn_ablation.variants(DIGITS)


# The variants ---------------------------------------------------------------------------------


def changes(a, b):
    """The fields in which two configurations differ, but for where they are and for `ablate`."""
    return {name for name in vars(a) if vars(a)[name] != vars(b)[name]} - {"workdir", "ablate"}


def test_the_first_variant_is_ncsn():
    first = VARIANTS["NCSN"]
    assert (first.network, first.ema_decay) == ("ncsn", 0.0)
    # Of 2019: its levels and its step, and as many Langevin steps as the recipe has.
    published = PRESETS["ncsn_v1"]
    for name in ("network", "sigma_max", "sigma_min", "levels", "epsilon", "ema_decay"):
        assert getattr(first, name) == getattr(published, name)
    assert first.levels * first.langevin_steps == DIGITS.levels * DIGITS.langevin_steps == 110


def test_the_last_variant_is_the_recipe():
    last = list(VARIANTS.values())[-1]
    assert dataclasses.replace(last, workdir=DIGITS.workdir, ablate=True) == DIGITS
    assert last.workdir == DIGITS.workdir / "all"


def test_each_variant_adds_one_technique():
    added = [changes(a, b) for a, b in itertools.pairwise(VARIANTS.values())]
    levels = {"levels", "langevin_steps"}
    assert added == [{"sigma_max"}, levels, {"network"}, {"epsilon"}, {"ema_decay"}]
    assert len({variant.workdir for variant in VARIANTS.values()}) == 6
    assert not any(variant.ablate for variant in VARIANTS.values())


def test_no_variant_is_dearer_than_the_recipe():
    for name in ("digits", "fashion", "cifar10"):
        config = PRESETS[name]
        costs = [v.levels * v.langevin_steps for v in ncsn_ablation.variants(config).values()]
        # NCSN has 10 levels, of as many steps as come nearest.
        assert max(costs) - min(costs) <= 5
    few = dataclasses.replace(DIGITS, levels=2, langevin_steps=1)
    assert ncsn_ablation.variants(few)["NCSN"].langevin_steps == 1


# Training time --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "seconds"),
    [
        ([(100, 10.0), (200, 20.0)], 15.0),
        ([(100, 10.0), (130, 10.0), (200, 7.0)], 23.0),  # stopped at 130 and resumed
        ([(3, 0.0)], 600.0),  # what is logged with two digits may be nothing
        ([], 0.0),
    ],
)
def test_training_took_what_its_speeds_say(tmp_path, rows, seconds):
    named = [{"step": step, "steps_per_second": speed} for step, speed in rows]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named))
    assert ncsn_ablation.training_seconds(tmp_path / "metrics.jsonl") == pytest.approx(seconds)


def test_what_was_trained_elsewhere_took_no_time(tmp_path):
    assert ncsn_ablation.training_seconds(tmp_path / "metrics.jsonl") == 0


# The table and the picture --------------------------------------------------------------------


def results(number):
    samples = {"evaluations": 111, "frechet": 2.0 + number, "precision": 0.5, "recall": 0.25}
    rest = {"evaluations": 110, "frechet": 4.0 + number}
    sampling = {"langevin": {"seconds": 7.4, "compile_seconds": 1.0}}
    return {"samples": samples, "without_denoising": rest, "sampling": sampling, "training_seconds": 61.6}


def test_the_table_has_a_row_for_each_variant():
    rows = ncsn_ablation.table({"NCSN": results(0), "+ step size": results(1)})
    assert len({len(row) for row in rows}) == 1
    assert rows[1:] == [
        ("NCSN", "111", "2.00", "4.00", "0.500", "0.250", "62", "7"),
        ("+ step size", "111", "3.00", "5.00", "0.500", "0.250", "62", "7"),
    ]


def test_the_table_has_an_fid_if_there_is_one():
    judged = results(0)
    judged["samples"]["fid"] = 12.5
    heading, first, second = ncsn_ablation.table({"NCSN": judged, "+ step size": results(1)})
    assert (heading[6], first[6], second[6]) == ("FID", "12.500", "")
    assert len(heading) == len(first) == len(second)


def test_there_is_a_picture(tmp_path):
    rows = {name: results(i) for i, name in enumerate(ncsn_ablation.TECHNIQUES)}
    grids = dict.fromkeys(rows, np.random.default_rng(0).random((50, 8, 8, 1)))
    ncsn_ablation.picture(rows, grids, tmp_path / "ablation.png")
    assert ink(tmp_path / "ablation.png") > 0.2  # six grids of noise, and bars


# A run ----------------------------------------------------------------------------------------


@pytest.fixture
def cheap(monkeypatch):
    """Two variants of a small network, and one file in place of the pictures; of which variants."""
    made = []

    def report(config, annealing, images, params, samples, history, folder):
        if folder.name == "report":  # and no rehearsal
            made.append(folder.parent.name)
        (folder / "report.png").touch()
        return [folder / "report.png"]

    added = tuple(field for fields in ncsn_ablation.TECHNIQUES.values() for field in fields)
    monkeypatch.setattr(ncsn_ablation, "TECHNIQUES", {"NCSN": (), "+ all of them": added})
    monkeypatch.setattr(ncsn, "score_network", tiny_ncsn.score_network)
    monkeypatch.setattr(ncsn_report, "report", report)
    return made


def test_a_run_makes_every_variant_once(tmp_path, cheap, capsys):
    config = tiny_ncsn.config(tmp_path, ablate=True, sigma_max=2.0)
    rows = ncsn_ablation.run(ncsn.build, config)
    assert list(rows) == ["NCSN", "+ all of them"]
    assert cheap == ["0", "all"]
    folders = {path.name for path in config.workdir.iterdir()}
    assert folders == {"0", "all", "ablation.json", "ablation.png"}
    assert json.loads((config.workdir / "ablation.json").read_text()) == json.loads(json.dumps(rows))
    assert all(row["training_seconds"] > 0 for row in rows.values())
    told = json.loads((config.workdir / "0" / "config.json").read_text())
    assert (told["network"], told["sigma_max"], told["levels"]) == ("ncsn", 1.0, 10)
    printed = capsys.readouterr().out
    assert f"picture: {config.workdir / 'ablation.png'}" in printed
    assert f"{rows['NCSN']['samples']['frechet']:.2f}" in printed

    before = snapshot(config.workdir)
    again = ncsn_ablation.run(ncsn.build, config)
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(rows))
    assert cheap == ["0", "all"]  # nothing is made again
    after = snapshot(config.workdir)
    renewed = {f"{name}/{file}" for name in ("0", "all") for file in RENEWED} | {"ablation.png"}
    assert {path for path in before | after if after.get(path) != before.get(path)} <= renewed

    # Each is a run like any other, and the folder of all of them is none.
    single = dataclasses.replace(config, ablate=False, workdir=config.workdir / "all")
    metrics = launch.run(ncsn.build(single), single.workdir)
    assert metrics["samples"] == rows["+ all of them"]["samples"]
    with pytest.raises(workdir.Refusal, match="is not empty and holds no run"):
        launch.run(ncsn.build(dataclasses.replace(single, workdir=config.workdir)), config.workdir)


def test_what_differs_in_sampling_alone_is_trained_once(tmp_path, cheap, monkeypatch):
    more = {"NCSN": (), "+ step size": ("epsilon", "langevin_steps"), "+ all of them": ("levels",)}
    monkeypatch.setattr(ncsn_ablation, "TECHNIQUES", more)
    trained, loop = [], trainer.loop
    monkeypatch.setattr(trainer, "loop", lambda *a, **k: trained.append(1) or loop(*a, **k))
    config = tiny_ncsn.config(tmp_path, ablate=True)
    rows = ncsn_ablation.run(ncsn.build, config)
    assert len(trained) == 2
    assert cheap == ["0", "1", "all"]
    assert rows["+ step size"]["samples"]["frechet"] != rows["NCSN"]["samples"]["frechet"]
    assert rows["+ step size"]["training_seconds"] == rows["NCSN"]["training_seconds"]
    assert json.loads((config.workdir / "1" / "config.json").read_text())["epsilon"] == config.epsilon
    assert not list(config.workdir.glob("*.tmp"))


def test_modes_go_one_after_another(tmp_path, cheap):
    config = tiny_ncsn.config(tmp_path, ablate=True)
    with pytest.raises(workdir.Refusal, match=r"--mode sample: no checkpoint in .*run/0; train first"):
        ncsn_ablation.run(ncsn.build, dataclasses.replace(config, mode="sample"))
    assert not config.workdir.exists()


def test_without_an_evaluation_there_is_no_table(tmp_path, monkeypatch, capsys):
    ran = []
    run = lambda experiment, folder, *, mode: ran.append((folder.name, mode)) or {}
    monkeypatch.setattr(launch, "run", run)
    config = tiny_ncsn.config(tmp_path, ablate=True, mode="train")
    assert ncsn_ablation.run(lambda variant: None, config) == {}
    assert ran == [(name, "train") for name in ("0", "1", "2", "3", "4", "all")]
    assert not config.workdir.exists()
    assert "picture" not in capsys.readouterr().out
