"""A small benchmark from the command's function to its files, and a second run that goes on."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.posterior import run as module
from experiments.posterior.run import Config, run
from tests.experiments.pictures import ink

SMALL = {
    "dimensions": (8,),
    "measurements": (1, 2),
    "problems": 3,
    "draws": 64,
    "levels": 20,
    "methods": ("exact score, Heun", "no measurement", "particles, 16"),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    config = Config(workdir=tmp_path_factory.mktemp("posterior") / "a", **SMALL)
    return config, run(config)


def test_exact_methods_are_near_the_floor_and_the_prior_is_not(small):
    config, found = small
    assert json.loads((config.workdir / "posterior.json").read_text()) == found
    assert [(cell["dimensions"], cell["measurements"]) for cell in found["benchmark"]] == [(8, 1), (8, 2)]
    for cell in found["benchmark"]:
        floor, exact, prior, particles = (np.mean(row["distances"]) for row in cell["rows"])
        assert exact < 2 * floor + 1  # 64 draws of far modes differ by 1 or 2
        assert particles < prior
        assert prior > 2 * floor
    assert ink(config.workdir / "posterior.png") > 0.005
    assert ink(config.workdir / "modes.png") > 0.005


def test_rows_do_not_depend_on_the_other_methods(small):
    config, found = small
    alone = dataclasses.replace(config, methods=("particles, 16",))
    rows = {row["method"]: row["distances"] for row in found["benchmark"][0]["rows"]}
    again = {row["method"]: row["distances"] for row in module.benchmark(alone, 8, 1)["rows"]}
    assert list(again) == ["exact draws", "particles, 16"]
    for name, distances in again.items():
        np.testing.assert_allclose(distances, rows[name], rtol=1e-5)


def test_a_second_run_goes_on_with_the_kinds_that_are_missing(small, monkeypatch):
    config, found = small
    path = config.workdir / "posterior.json"
    path.write_text(json.dumps(found | {"benchmark": found["benchmark"][:1]}))
    asked = []
    monkeypatch.setattr(module, "samples", lambda *args: None)
    monkeypatch.setattr(
        module, "benchmark", lambda config, d, m: asked.append((d, m)) or found["benchmark"][1]
    )
    monkeypatch.setattr(module, "one_number", lambda config: pytest.fail("computed again"))
    assert run(config) == found
    assert asked == [(8, 2)]


def test_another_seed_begins_anew(small, monkeypatch):
    config, found = small
    monkeypatch.setattr(module, "samples", lambda *args: None)
    monkeypatch.setattr(module, "benchmark", lambda config, d, m: found["benchmark"][m - 1])
    monkeypatch.setattr(module, "one_number", lambda config: found["one_number"][:1])
    other = run(dataclasses.replace(config, seed=1))
    assert other["stamp"] != found["stamp"]
    assert len(other["one_number"]) == 1
