"""The flags of edm that depend on each other."""

import pytest

from experiments.edm.config import Config, Network, Sampling
from jaxscore.launch.config import Optimizer
from jaxscore.launch.flags import FlagError


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Network(kind="adm", patch=2), "--network.patch 2: has no effect on adm; give 1"),
        (lambda: Network(kind="dit", dropout=0.1), "--network.dropout 0.1: has no effect on dit; give 0"),
        (lambda: Network(kind="dit", heads=5), "--network.heads 5: must divide --network.channels 128"),
        (lambda: Network(attention=(1, 3)), "--network.attention 1 3: must be levels 0 to 2"),
        (lambda: Sampling(sigma_max=0.001), "--sampling.sigma-max 0.001: must exceed --sampling.sigma-min"),
        (lambda: Sampling(interval=(2.0, 1.0)), "--sampling.interval 2.0 1.0: must be LOW HIGH"),
        (lambda: Sampling(guide="runs/a"), "--sampling.guide runs/a: has no effect with --sampling.scale 1"),
        (lambda: Sampling(guide_step=3), "--sampling.guide-step 3: needs --sampling.guide"),
        (lambda: Config(samples=3), "--samples 3: must be at least 4, for recall"),
        (lambda: Config(conditional=False, p_uncond=0.1), "--p-uncond 0.1: needs --conditional"),
        (lambda: Config(conditional=False, classes=3), "--classes 3: needs --conditional"),
        (
            lambda: Config(conditional=False, sampling=Sampling(label=3)),
            "--sampling.label 3: needs --conditional",
        ),
        (
            lambda: Config(sampling=Sampling(scale=2.0)),
            "--sampling.scale 2.0: needs training with --conditional",
        ),
        (
            lambda: Config(data="latents:a.npz", flip=True),
            "--flip True: mirrors images, and latents are none",
        ),
        (
            lambda: Config(augment=0.1, network=Network(kind="ddpm")),
            "--augment 0.1: has no effect on --network.kind ddpm; give 0",
        ),
        (
            lambda: Config(network=Network(kind="edm2"), optimizer=Optimizer(kind="schedule-free")),
            "--optimizer.kind schedule-free: averages kernels",
        ),
    ],
)
def test_flags_that_exclude_each_other_are_named(wrong, said):
    with pytest.raises(FlagError, match=f"^{said.replace('(', '.')}"):
        wrong()
