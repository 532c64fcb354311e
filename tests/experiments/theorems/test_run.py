import json
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.theorems import rows
from experiments.theorems import run as theorems
from tests.experiments.pictures import aspect, ink
from tests.experiments.theorems.test_rows import gaussian

BLOCKS, THETAS = 4000, 3


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Rows, folder and output of a run of linear fields, which compile faster than networks, on a Gaussian.

    And each objective and its slope in every block at every theta, [BLOCKS, THETAS], with the key of the
    blocks. There are many blocks, to be divided into runs of few.
    """
    config = theorems.Config(
        workdir=tmp_path_factory.mktemp("theorems") / "run", blocks=BLOCKS, draws=100, thetas=THETAS
    )
    linear = lambda dimension, families=rows.families: {"network": families(dimension)["linear"]}
    said, caught = [], {}

    def along(key, *arguments, original=rows.along):
        caught["values"], caught["slopes"] = original(key, *arguments)
        caught["key"] = key
        return caught["values"], caught["slopes"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "PAIRS", {theorems.SHOWN: ("Gaussian", "network")})
        patch.setattr(rows, "families", linear)
        patch.setattr(rows, "along", along)
        patch.setattr(theorems.console, "say", said.append)
        found = theorems.run(config)
    told = {"folder": config.workdir, "output": "\n".join(said), "config": config}
    return SimpleNamespace(rows=found, **told, **caught)


def chosen(found: list, **labels) -> list:
    return [row for row in found if all(row.get(name) == value for name, value in labels.items())]


# Rows -----------------------------------------------------------------------------------------


def test_every_row_has_an_estimate_and_its_standard_error(run):
    kinds = {"value", rows.CONSTANT, rows.SLOPES, rows.BIAS, rows.LIMIT}
    assert {row["quantity"] for row in run.rows} == kinds
    for row in run.rows:
        assert np.isfinite([row["estimate"], row["standard_error"]]).all()
        assert row["standard_error"] > 0
        if row["quantity"] in (rows.CONSTANT, rows.SLOPES, rows.BIAS):
            assert row["errors_off"] == row["estimate"] / row["standard_error"]
            assert row["error_share"] > 0


def test_every_row_has_its_own_label(run):
    # Two values, a constant and a slope for each objective and theta; K of each kind; two a level.
    count = 2 * THETAS * 4 + 2 * len(rows.PROBES) + 2 * 13
    names = ("quantity", "objective", "pair", "theta", "probes", "sigma")
    labels = [tuple(row.get(name) for name in names) for row in run.rows]
    assert len(set(labels)) == len(labels) == count
    assert sorted({row["theta"] for row in run.rows if "theta" in row}) == [-1.0, 0.0, 1.0]


def test_the_rows_are_differences_of_values_and_of_slopes(run):
    """Differences of values are taken from their mean over theta."""
    found = rows.theorems(run.values, run.slopes, run.config, "a pair")
    for objective, reference in rows.THEOREMS.items():
        values = run.values[reference] - run.values[objective]
        expected = {
            rows.CONSTANT: (values - values.mean(axis=1)[:, None]).mean(axis=0),
            rows.SLOPES: (run.slopes[reference] - run.slopes[objective]).mean(axis=0),
        }
        for quantity, means in expected.items():
            line = chosen(found, quantity=quantity, objective=objective)
            np.testing.assert_allclose([row["estimate"] for row in line], means, atol=1e-12)
            size = run.values[reference].mean(axis=0)
            shares = [row["standard_error"] / row["error_share"] for row in line]
            np.testing.assert_allclose(shares, size)


def test_the_slopes_are_those_of_reverse_mode(run):
    mixture, family = gaussian()
    means = partial(rows.block_means, mixture, family, run.config)
    slopes = jax.jit(jax.vmap(jax.jacrev(means, argnums=1), (0, None)))
    keys = jax.vmap(partial(jax.random.fold_in, run.key))(jnp.arange(10))
    for name, found in slopes(keys, 1.0).items():
        # Means of 100 numbers of order 1, in float32.
        np.testing.assert_allclose(found, run.slopes[name][:10, -1], atol=1e-5)


# What is known --------------------------------------------------------------------------------


def test_the_constants_are_those_known_for_a_gaussian(run):
    # E|grad log p|^2 = D / variance, and the noise adds E|n / sigma|^2 = D / sigma^2 to Vincent's.
    std, sigma = 0.8, run.config.sigma
    expected = {"implicit": 1 / std**2, "denoising": 1 / (std**2 + sigma**2) - 1 / sigma**2}
    for objective, constant in expected.items():
        differences = run.values[rows.THEOREMS[objective]] - run.values[objective]
        for values in differences.T:
            found = rows.estimate(values)
            assert found["standard_error"] < 0.005 * abs(constant)
            # Four standard errors: once in 16,000 for each of six.
            assert abs(found["estimate"] - constant) < 4 * found["standard_error"]


def test_the_null_statistic_is_calibrated(run):
    parts = BLOCKS // 20
    for objective, reference in rows.THEOREMS.items():
        difference = run.values[reference] - run.values[objective]
        deviation = difference - difference.mean(axis=1)[:, None]
        for blocks in (deviation[:, 0], (run.slopes[reference] - run.slopes[objective])[:, 0]):
            found = np.array([rows.null(part, 1.0)["errors_off"] for part in blocks.reshape(parts, 20)])
            # Student's t with 19 degrees of freedom has a standard deviation of 1.057, which 200 draws
            # tell to 6 %, with its tails; and their mean is uncertain by 0.075. Four of each.
            assert 0.8 < found.std() < 1.31
            assert abs(found.mean()) < 0.3


def test_the_theorems_hold(run):
    tested = [row for row in run.rows if "errors_off" in row]
    assert len(tested) == 4 * THETAS + 2 * len(rows.PROBES)
    # 24 rows, correlated: one beyond four comes once in 660 runs.
    assert max(abs(row["errors_off"]) for row in tested) < 4
    assert max(row["error_share"] for row in chosen(tested, quantity=rows.CONSTANT)) < 0.01


# Slices, and small noise ------------------------------------------------------------------------


def test_the_variance_of_slices_falls_as_one_over_the_probes(run):
    for kind in rows.SLICED:
        line = chosen(run.rows, objective=kind)
        assert [row["probes"] for row in line] == list(rows.PROBES)
        # 1,000 points: a mean square of heavy tails is uncertain by some 10 %, of 32 probes as of one.
        assert 20 < line[0]["variance_estimate"] / line[-1]["variance_estimate"] < 51
        expected = np.sqrt(line[0]["variance_estimate"] / 1000)
        assert line[0]["standard_error"] == pytest.approx(expected, rel=0.05)
    plain, reduced = (chosen(run.rows, objective=kind, probes=1)[0] for kind in rows.SLICED)
    assert reduced["variance_estimate"] < plain["variance_estimate"]


def test_at_small_noise_the_score_of_the_data_is_hard_to_learn(run):
    exact, learned = (
        {row["sigma"]: row["estimate"] for row in chosen(run.rows, objective=objective)}
        for objective in (rows.EXACT, rows.LEARNED)
    )
    small, large = min(exact), max(exact)
    assert exact[small] < 0.005
    assert exact[large] > 0.8
    # Second order in sigma, and two levels are a factor of 100^(1/6) apart.
    distances = np.array([exact[sigma] for sigma in sorted(exact)])
    np.testing.assert_allclose(distances[2:5] / distances[:3], 100 ** (2 / 6), rtol=0.15)
    assert learned[small] > 20 * exact[small]
    assert min(learned, key=learned.get) not in (small, large)


# The run --------------------------------------------------------------------------------------


def test_a_run_writes_its_rows_its_flags_and_a_picture(run):
    assert {path.name for path in run.folder.iterdir()} == {"config.json", "theorems.json", "theorems.png"}
    assert json.loads((run.folder / "theorems.json").read_text()) == run.rows
    written = json.loads((run.folder / "config.json").read_text())
    assert (written["experiment"], written["blocks"], written["sigma"]) == ("theorems", BLOCKS, 0.6)
    assert ink(run.folder / "theorems.png") > 0.02
    assert aspect(run.folder / "theorems.png") > 3  # four panels


def test_a_run_prints_the_furthest_rows_and_the_summary(run):
    tested = [abs(row["errors_off"]) for row in run.rows if "errors_off" in row]
    printed = [line.rsplit(maxsplit=1) for line in run.output.splitlines()]
    printed = {words[0].strip(): words[1] for words in printed if len(words) == 2}
    assert printed["rows that should be 0"] == str(len(tested)) == "24"
    assert printed["furthest of them, in standard errors"] == f"{max(tested):.2f}"
    assert printed["by chance below, in 19 runs of 20"] == "3.07"  # erf(3.07 / sqrt(2))^24 = 0.95
    for kind in rows.SLICED:
        assert float(printed[f"{kind}: variance ~ K to the power"]) == pytest.approx(-1, abs=0.1)
    assert f"picture: {run.folder / 'theorems.png'}" in run.output
