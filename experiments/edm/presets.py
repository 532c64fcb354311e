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


def _edm2(name: str, channels: int, steps: int, rate: float, t_ref: int, **changes) -> Config:
    """Returns a preset of EDM2: learnt uncertainty, a rate that falls from step t_ref, and snapshots."""
    return Config(
        preset=name,
        workdir=Path("runs") / f"edm-{name}",
        classes=1000,
        network=Network(kind="edm2", channels=channels, multipliers=(1, 2, 3, 4), blocks=3, attention=(2, 3)),
        precision="bfloat16",
        weight="uncertainty",
        steps=steps,
        batch=2048,
        optimizer=Optimizer(
            learning_rate=rate, warm_up=round(1e7 / 2048), decay=1 - t_ref / steps, fall="inverse_sqrt"
        ),
        snapshot_every=4096,
        sampling=Sampling(levels=32),
        samples=50_000,
        sample_batch=500,
        save_every=4096,
        **changes,
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
    # The smallest networks that were published for images of 64 x 64 pixels, and for latents.
    "edm2_s": _edm2(
        "edm2_s",
        192,
        2**19,
        1e-2,
        35_000,
        data="imagenet_resized/64x64",
        shape=(64, 64, 3),
        sigma_mean=-0.8,
        sigma_std=1.6,
    ),
    "edm2_xs": _edm2(
        "edm2_xs",
        128,
        2**20,
        1.2e-2,
        70_000,
        data="latents:imagenet512.npz",
        shape=(64, 64, 4),
        sigma_mean=-0.4,
        sigma_std=1.0,
    ),
    "dit": Config(
        preset="dit",
        workdir=Path("runs/edm-dit"),
        data="latents:imagenet256.npz",
        shape=(32, 32, 4),
        classes=1000,
        p_uncond=0.1,
        network=Network(kind="dit", channels=1152, blocks=28, heads=16, patch=2),
        precision="bfloat16",
        steps=400_000,
        batch=256,
        optimizer=dataclasses.replace(ADAM, learning_rate=1e-4, warm_up=0),
        ema_decay=0.9999,
        sampling=Sampling(levels=50, scale=1.5),
        samples=50_000,
        sample_batch=500,
        save_every=5000,
    ),
}
"""Recipes by name.

`folder:ffhq64` is a folder of 70,000 faces, `folder:afhqv2` one of 15,803 faces of animals, at 64 pixels or
larger. Latents are those of the autoencoder of Stable Diffusion, for images of 512 or 256 pixels. DiT-XL/2 is
trained with EDM's preconditioning here; it was published with the noise prediction of DDPM.
"""
