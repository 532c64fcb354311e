import jax
import numpy as np

from experiments.families import judging
from experiments.families import setting as settings
from jaxscore import metrics, mixtures

POINTS = settings.of("25gaussians")


DRAW = jax.jit(mixtures.draw, static_argnums=2)


def draw(seed, n=400):
    return np.asarray(DRAW(jax.random.key(seed), settings.GRID(), n))


def test_how_far_other_samples_would_move_a_metric():
    # Sets 2 apart: a Frechet distance far from 0, whose variance falls as 1/n.
    found = judging.judge_of("25gaussians")
    moved = found._replace(reference=draw(100) + np.array([2.0, 0.0]))
    reach = judging._reaches(moved, draw(0))["frechet"]
    values = [metrics.frechet(draw(seed), draw(100 + seed) + np.array([2.0, 0.0])) for seed in range(60)]
    # 20 halves know the width to 16 %, 60 values theirs to 9 %: within three of both.
    np.testing.assert_allclose(reach, 1.96 * np.std(values), rtol=0.55)


def test_every_finite_samplers_metrics_have_a_reach():
    lost = draw(2).copy()
    lost[3] = np.nan
    results = judging.evaluate(POINTS, None, None, {"fine": draw(1), "lost": lost})
    assert results["samplers"]["lost"] == {"finite": False}
    assert set(results["reaches"]) == {"fine"}
    reaches = results["reaches"]["fine"]
    assert set(reaches) == {"frechet", "precision", "recall", "kid"} <= set(results["samplers"]["fine"])
    assert all(reach > 0 for reach in reaches.values())


def test_too_few_samples_have_metrics_and_no_reach():
    results = judging.evaluate(POINTS, None, None, {"few": draw(1, 16)})
    assert results["reaches"] == {"few": {}}
    assert results["samplers"]["few"]["frechet"] > 0
