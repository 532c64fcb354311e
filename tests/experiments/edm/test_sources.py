import dataclasses
from functools import partial

import numpy as np
import pytest

from experiments.edm import experiment as edm
from experiments.edm.config import Sampling
from jaxscore import data, launch
from jaxscore.launch import flags
from tests.experiments.edm import tiny


def test_classes_and_labels_must_fit_the_data(tmp_path):
    for changes, said in (
        ({"classes": 1}, "--classes 1: must be at least 2, as many as --data has"),
        ({"sampling": Sampling(label=2)}, r"--sampling.label 2: must be one of 0\.\.1"),
    ):
        with pytest.raises(flags.FlagError, match=said):
            edm.build(tiny.config(tmp_path, **changes))


def test_classes_need_labels_and_unused_labels_are_said(tmp_path, capsys):
    images = np.linspace(0, 255, 8**3).reshape(8, 8, 8, 1).astype(np.uint8)
    np.savez(tmp_path / "plain.npz", images=images)
    with pytest.raises(
        flags.FlagError, match=r"--conditional True: needs labels, which 'npz:.*plain\.npz' lacks"
    ):
        edm.build(tiny.config(tmp_path, data=f"npz:{tmp_path / 'plain.npz'}"))
    edm.build(tiny.config(tmp_path))
    assert capsys.readouterr().out == ""
    edm.build(tiny.config(tmp_path, conditional=False, p_uncond=0.0, sampling=Sampling()))
    assert "--no-conditional: the 2 classes of" in capsys.readouterr().out


def test_absent_data_matter_only_where_they_are_needed(tmp_path):
    absent = partial(tiny.config, tmp_path, data="npz:absent.npz", shape=(8, 8, 1), classes=2)
    assert edm.build(absent(mode="sample")).data.event == (8, 8, 1)
    with pytest.raises(data.DataError, match=r"absent\.npz"):
        edm.build(absent())


@pytest.mark.slow
def test_latents_have_units_of_their_own(tmp_path):
    """Each channel gets mean 0 and standard deviation 1/2; samples are latents again."""
    rng = np.random.default_rng(0)
    latents = (rng.standard_normal((64, 8, 8, 2)) * [3.0, 0.2] + [5.0, -1.0]).astype(np.float32)
    np.savez(tmp_path / "latents.npz", images=latents, labels=np.arange(64) % 2)
    config = tiny.config(tmp_path, data=f"latents:{tmp_path / 'latents.npz'}", shape=(8, 8, 2))
    experiment = edm.build(config)
    x = experiment.units.encode(latents)
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=(0, 1, 2)), 0.5, rtol=1e-4)
    np.testing.assert_allclose(experiment.units.decode(x), latents, atol=1e-5)
    found = launch.run(experiment, config.workdir)
    assert found["samplers"]["samples"]["precision"] >= 0
    with np.load(config.workdir / "samples.npz") as samples:
        # A network that has learnt nothing draws from the Gaussian with the moments of the data.
        np.testing.assert_allclose(samples["samples"].mean(axis=(0, 1, 2)), [5, -1], atol=1.0)
    absent = dataclasses.replace(config, data="latents:absent.npz", mode="sample")
    with pytest.raises(data.DataError, match="samples are in units of the latents, which are absent"):
        edm.build(absent)
