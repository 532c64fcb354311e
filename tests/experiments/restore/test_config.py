"""Which methods fit which problem, and what each problem measures."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.restore import config as configs
from experiments.restore.config import Config
from jaxscore.inverse import operators
from jaxscore.launch.flags import FlagError

PROBLEMS = ("inpaint", "super_resolution", "deblur", "mri", "tomography", "projection")


@pytest.mark.parametrize("event", [(4, 6, 1), (5, 7, 3), (2, 2, 1)])
def test_a_half_is_known(event):
    h, w, c = event
    masks = {known: configs.half(known, event) for known in ("left", "right", "top", "bottom")}
    for mask in masks.values():
        assert (mask.shape, mask.dtype) == (event, bool)
        assert np.all(mask == mask[..., :1])  # of all channels
    # The middle of an odd side belongs to the right, and to the bottom.
    np.testing.assert_array_equal(masks["left"][:, : w // 2], True)
    np.testing.assert_array_equal(masks["left"][:, w // 2 :], False)
    np.testing.assert_array_equal(masks["top"][: h // 2], True)
    np.testing.assert_array_equal(masks["top"][h // 2 :], False)
    np.testing.assert_array_equal(masks["right"], ~masks["left"])
    np.testing.assert_array_equal(masks["bottom"], ~masks["top"])
    assert masks["left"].sum() == h * (w // 2) * c


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_linear_problem_has_a_linear_operator(problem):
    config = Config(problem=problem, blur=1.0, factor=2)
    operators.check(configs.operator(config, (8, 8, 1)), (8, 8, 1))


def test_the_sizes_of_measurements_are_those_of_the_flags():
    size = lambda **flags: (
        configs.operator(Config(**flags), (8, 8, 1)).apply(jnp.ones((1, 8, 8, 1))).shape[1:]
    )
    assert size(problem="super_resolution", factor=4) == (2, 2, 1)
    assert size(problem="mri", fraction=0.5) == (1, 32, 2)
    assert size(problem="tomography", angles=3) == (3, 8, 1)
    assert size(problem="projection", fraction=0.25) == (16,)
    assert size(problem="phase_retrieval") == (16, 16, 1)
    grey = configs.operator(Config(problem="grey"), (8, 8, 3))
    assert grey.apply(jnp.ones((1, 8, 8, 3))).shape == (1, 8, 8, 1)


def test_low_frequencies_are_in_the_middle():
    columns = configs.low_frequencies(Config(fraction=0.25), (28, 28, 1))[0]
    assert columns.sum() == 7
    assert columns[13:15].all()


def test_methods_run_where_they_fit():
    usual = ("pseudo_inverse", "gaussian", "pigdm", "diffpir", "decoupled", "dps", "particles")
    assert Config().chosen == usual
    assert Config(noise=0.0).chosen == usual[:-1]
    assert Config(problem="phase_retrieval").chosen == ("dps", "particles")
    assert Config(problem="inpaint", methods=("repaint", "pigdm")).chosen == ("pigdm", "repaint")


@pytest.mark.parametrize(
    ("flags", "event", "said"),
    [
        (
            {"problem": "super_resolution", "factor": 3},
            (8, 8, 1),
            "--factor 3: must divide the sides of the images",
        ),
        ({"problem": "deblur", "blur": 2.0}, (8, 8, 1), "--blur 2.0: its kernel of 13 pixels must fit"),
        ({"problem": "grey"}, (8, 8, 1), "--problem grey: needs images with 3 channels, not 1"),
        ({"problem": "mri"}, (8, 8, 3), "--problem mri: needs images with 1 channel, not 3"),
    ],
)
def test_problems_that_do_not_fit_the_images_are_refused(flags, event, said):
    with pytest.raises(FlagError, match=said):
        configs.operator(Config(**flags), event)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"methods": ("repaint",)}, "--methods repaint: needs known pixels: --problem inpaint"),
        ({"methods": ("particles",), "noise": 0.0}, "--methods particles: needs a --noise above 0"),
        (
            {"methods": ("pigdm",), "problem": "phase_retrieval"},
            "--methods pigdm: needs a linear measurement",
        ),
        ({"methods": ("pgdm",)}, "--methods pgdm: must be among pseudo_inverse, gaussian"),
        ({"fraction": 1.5}, "--fraction 1.5: must be at most 1"),
    ],
)
def test_methods_that_do_not_fit_are_refused(flags, said):
    with pytest.raises(FlagError, match=said):
        dataclasses.replace(Config(), **flags)
