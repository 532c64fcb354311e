import dataclasses
import importlib.util
import json
from functools import partial
from pathlib import Path

import jax
import pytest

from experiments.plan import programs as plan_programs
from experiments.plan import recipes as plan_recipes
from experiments.plan import report as plan_report
from experiments.plan import run as plan
from jaxscore.launch.config import Mesh
from jaxscore.launch.flags import FlagError
from tests.experiments.pictures import ink
from tests.launch import tiny

RECIPE = plan_recipes.Recipe(tiny.build, {"tiny": tiny.Config()})
ROOT = Path(__file__).parents[3]

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu (extra [plan]) is not installed"
)
on_tpu = partial(pytest.param, marks=needs_libtpu)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Rows of a step and two samplers, both meshes, on four chips; with the file that is written."""
    path = tmp_path_factory.mktemp("plan") / "figures" / "plan.json"
    config = plan.Config(topology=("v5e:2x2",), batch_size=(64,), out=path)
    return plan.run(config, RECIPE, tiny.Config(width=512)), json.loads(path.read_text())


@needs_libtpu
def test_step_and_samplers_are_planned_on_both_meshes(planned):
    """One mesh is data parallel, the other fully sharded."""
    rows, _ = planned
    steps = [row for row in rows if row["program"] == "training step"]
    assert [(row["data"], row["fsdp"], row["images"]) for row in steps] == [(4, 1, 64), (1, 4, 64)]
    assert {row["program"] for row in rows} == {"training step", "sampler one", "sampler two"}
    assert len(rows) == 6
    size = 3 * 512 + 512 + 2 * 512
    assert {(row["chip"], row["parameters"]) for row in rows} == {("TPU v5e", size)}


@needs_libtpu
def test_the_figures_of_a_step_are_those_of_its_closed_form(planned):
    whole, split = (row for row in planned[0] if row["program"] == "training step")
    for row in (whole, split):
        # Two products forward and their weights' gradients, and back through the second; 16 rows a chip.
        assert sum(row["flops"].values()) == 2 * 16 * 512 * (2 * (3 + 2) + 2)
        assert row["images_per_second"] == pytest.approx(64 / max(row["seconds"].values()))
    (reduced,) = whole["collectives"]
    assert (reduced["kind"], reduced["group"], reduced["overlapped"]) == ("all-reduce", 4, False)
    assert "all-gather" in {found["kind"] for found in split["collectives"]}
    assert split["memory"]["arguments"] < whole["memory"]["arguments"] < whole["chip_memory"]


@needs_libtpu
def test_microbatches_exchange_the_gradient_once():
    # With the effort that a run is compiled with: at the least, the exchange stays in the loop.
    config = plan.Config(topology=("v5e:2x2",), batch_size=(64,), fsdp=(1,), samplers=False, effort=0.0)
    (row,) = plan.run(config, RECIPE, tiny.Config(width=512, microbatches=4))
    size = 4 * row["parameters"]
    in_loop = [found["bytes"] for found in row["collectives"] if found["times"] > 1]
    assert sum(in_loop) < size / 20
    assert size <= sum(found["bytes"] for found in row["collectives"]) < 1.1 * size


@needs_libtpu
def test_the_file_has_the_rows_and_the_configuration(planned):
    rows, stored = planned
    assert stored["programs"] == json.loads(json.dumps(rows))
    assert stored["experiment"]["width"] == 512
    assert stored["effort"] == -1.0


@needs_libtpu
def test_the_table_has_a_column_for_each_program(planned):
    rows, _ = planned
    lines = plan_report.table(rows).splitlines()
    assert lines[0].count("training step") == 2
    assert all(len(line) <= len(lines[1]) for line in lines)
    (speed,) = (line for line in lines if line.startswith("images/s, at most"))
    assert f"{rows[0]['images_per_second']:,.0f}" in speed
    exchanges = plan_report.exchanges(rows)
    told = "\n".join(plan_report.notes(plan_programs.target("v5e:2x2", effort=-1).chip, rows, effort=-1))
    for words in ("all-reduce", "synchronous"):
        assert words in exchanges
    for words in ("Google Cloud", "one pass of bfloat16"):
        assert words in told


@needs_libtpu
def test_a_sweep_is_a_table_and_a_figure(tmp_path, capsys):
    """Combinations that are impossible are left out."""
    out = tmp_path / "sweep.json"
    config = plan.Config(topology=("v5e:2x2", "v5e:2x4"), batch_size=(16, 20), fsdp=(1,), out=out)
    rows = plan.run(config, RECIPE, tiny.Config())
    possible = [("v5e:2x2", 16), ("v5e:2x2", 20), ("v5e:2x4", 16)]
    assert [(row["topology"], row["images"]) for row in rows] == possible
    printed = capsys.readouterr().out
    assert "v5e:2x4, batch 20: --batch 20: must be divisible by the 8 devices; left out" in printed
    assert len(plan_report.sweep_table(rows).splitlines()) == 2 + len(rows)
    assert ink(out.with_suffix(".png")) > 0.02
    assert len(json.loads(out.read_text())["programs"]) == len(rows)


@needs_libtpu
def test_a_sweep_that_is_told_one_slice_goes_from_4_to_256_chips(monkeypatch):
    seen = []
    where = plan_programs.target("v5e:2x2", effort=-1.0)
    monkeypatch.setattr(plan_programs, "target", lambda name, effort: seen.append(name) or where)
    row = plan_programs.step_row(tiny.build(tiny.Config()), where)
    monkeypatch.setattr(plan_programs, "step_row", lambda experiment, where: row)
    plan.run(plan.Config(topology=("v5e:2x2",), sweep=True), RECIPE, tiny.Config())
    assert seen == ["v5e:2x2", "v5e:4x4", "v5e:8x8", "v5e:16x16"]


def test_the_meshes_are_those_asked_for_or_the_experiments_own():
    where = plan_programs.Target("cpu", jax.devices(), plan_programs.plan.unknown("x"), None, True)
    choose = lambda config, chosen: [c.mesh for c in plan.meshes(config, chosen, where)]
    assert choose(plan.Config(), tiny.Config()) == [Mesh(fsdp=1), Mesh(fsdp=8)]
    assert choose(plan.Config(fsdp=(2, 8, -1)), tiny.Config()) == [Mesh(fsdp=2), Mesh(fsdp=8)]
    own = dataclasses.replace(tiny.Config(), mesh=Mesh(fsdp=4))
    assert choose(plan.Config(), own) == [Mesh(fsdp=4)]
    with pytest.raises(FlagError, match="--fsdp 3: must divide the 8 chips"):
        choose(plan.Config(fsdp=(3,)), tiny.Config())


def test_flags_are_split_between_the_plan_and_the_experiment():
    line = "--topology v5e:2x2 v5e:4x4 --channels 128 --mesh.fsdp 4 --batch-size=64 --no-samplers --steps 10"
    mine, others = plan.split(line.split())
    assert mine == ["--topology", "v5e:2x2", "v5e:4x4", "--batch-size=64", "--no-samplers"]
    assert others == ["--channels", "128", "--mesh.fsdp", "4", "--steps", "10"]
    assert plan.split(["--batch_size", "3"])[0] == ["--batch_size", "3"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        on_tpu("--topology v5e:3x7", "--topology v5e:3x7: no TPU topology 'v5e:3x7': "),
        on_tpu("--batch-size 10 --topology v5e:2x4", "--batch 10: must be divisible by the 8 devices"),
        ("--chanels 3", "Unrecognized options: --chanels"),
    ],
)
def test_bad_flags_are_one_line_and_exit_2(refused, words, said):
    assert refused("plan.run", words).startswith(said)
