"""Recipes of `experiments.edm`: the published ones, and one for small machines.

Constants of EDM are those of Karras et al. 2022 (tables 1, 5, 7 and 8), of EDM2 those of Karras et al. 2024
(table 6), of DiT those of Peebles & Xie 2023 (section 4).
"""

from pathlib import Path

from experiments.edm.config import Config, Network, Sampling
from jaxscore.launch.config import Optimizer

FASHION = Config(
    preset="fashion",
    workdir=Path("runs/edm-fashion"),
    network=Network(channels=32, multipliers=(1, 2), blocks=1, patch=2),
    p_uncond=0.1,
    steps=7000,
    batch=64,
    optimizer=Optimizer(kind="muon", learning_rate=1.5e-2, warm_up=200, decay=0.97, fall="cosine", b2=0.99),
    ema_halflife=30_000.0,
    sampling=Sampling(solver="dpm_solver_pp", levels=14, sigma_min=0.01, sigma_max=40.0, scale=1.5),
    samples=10_000,
    sample_batch=500,
    save_every=500,
)

PRESETS: dict[str, Config] = {"fashion": FASHION}
"""Recipes by name."""
