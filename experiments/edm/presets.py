"""Recipes of `experiments.edm`: the published ones, and one for small machines.

Constants of EDM are those of Karras et al. 2022 (tables 5, 7 and 8), those of EDM2 are of Karras et al. 2024
(table 6), and those of DiT of Peebles & Xie 2023 (sections 4 and 5). Numbers of images are divided by the
batch, as flags count steps.
"""

import dataclasses
from pathlib import Path

from experiments.edm.config import Config, Network, Sampling
from jaxscore.launch.config import Optimizer

ADAM = Optimizer(decay=0.0, b2=0.999)


def _edm(name: str, *, images: float, batch: int, rate: float, levels: int, **changes) -> Config:
    """Returns a preset of EDM: constant rate after 10 million images, half-lives in images."""
    optimizer = dataclasses.replace(ADAM, learning_rate=rate, warm_up=round(1e7 / batch))
    recipe = {"ema_halflife": 5e5, "conditional": False, "sampling": Sampling(levels=levels)} | changes
    return Config(
        preset=name,
        workdir=Path("runs") / f"edm-{name}",
        steps=round(images / batch),
        batch=batch,
        optimizer=optimizer,
        log_every=100,
        save_every=5000,
        samples=50_000,
        sample_batch=500,
        **recipe,
    )


CIFAR10 = {
    "images": 2e8,
    "batch": 512,
    "rate": 1e-3,
    "levels": 18,
    "data": "cifar10",
    "shape": (32, 32, 3),
    "network": Network(dropout=0.13),
    "augment": 0.12,
}
FACES = {
    "images": 2e8,
    "batch": 256,
    "rate": 2e-4,
    "levels": 40,
    "size": 64,
    "shape": (64, 64, 3),
    "augment": 0.15,
}
WIDE = Network(multipliers=(1, 2, 2, 2), attention=(2,), dropout=0.05)
CHURN = Sampling(levels=256, churn=40.0)

PRESETS: dict[str, Config] = {
    # The sampler, its scale and the size of the network were chosen on two CPU cores.
    "fashion": Config(
        preset="fashion",
        workdir=Path("runs/edm-fashion"),
        network=Network(channels=32, multipliers=(1, 2), blocks=1, patch=2),
        p_uncond=0.1,
        steps=7000,
        batch=64,
        optimizer=Optimizer(kind="muon", learning_rate=1.5e-2, warm_up=200, decay=0.97, fall="cosine"),
        ema_halflife=30_000.0,
        sampling=Sampling(solver="dpm_solver_pp", levels=14, sigma_min=0.01, sigma_max=40.0, scale=1.5),
        samples=10_000,
        sample_batch=500,
        save_every=500,
    ),
    "cifar10": _edm("cifar10", **CIFAR10),
    "cifar10_conditional": _edm("cifar10_conditional", **CIFAR10 | {"conditional": True}, classes=10),
    "ffhq": _edm("ffhq", **FACES, data="folder:ffhq64", network=WIDE),
    "afhqv2": _edm("afhqv2", **FACES, data="folder:afhqv2", network=dataclasses.replace(WIDE, dropout=0.25)),
    "imagenet64": _edm(
        "imagenet64",
        images=2.5e9,
        batch=4096,
        rate=1e-4,
        levels=256,
        data="imagenet_resized/64x64",
        shape=(64, 64, 3),
        conditional=True,
        classes=1000,
        network=Network(
            kind="adm", channels=192, multipliers=(1, 2, 3, 4), blocks=3, attention=(1, 2, 3), dropout=0.1
        ),
        ema_halflife=5e7,
        sampling=CHURN,
    ),
    # The size S of images of 64 x 64 pixels, and XS of latents, are the smallest that were published.
    "edm2_s": Config(
        preset="edm2_s",
        workdir=Path("runs/edm-edm2_s"),
        data="imagenet_resized/64x64",
        shape=(64, 64, 3),
        classes=1000,
        network=Network(kind="edm2", channels=192, multipliers=(1, 2, 3, 4), blocks=3, attention=(2, 3)),
        precision="bfloat16",
        weight="uncertainty",
        sigma_mean=-0.8,
        sigma_std=1.6,
        steps=2**19,
        batch=2048,
        optimizer=Optimizer(
            learning_rate=1e-2, warm_up=round(1e7 / 2048), decay=1 - 35_000 / 2**19, fall="inverse_sqrt"
        ),
        snapshot_every=4096,
        sampling=Sampling(levels=32),
        samples=50_000,
        sample_batch=500,
        save_every=4096,
    ),
}
"""Recipes by name. `folder:ffhq64` is a folder of 70,000 faces, `folder:afhqv2` one of 15,803 animals' faces,
at 64 pixels or larger."""
