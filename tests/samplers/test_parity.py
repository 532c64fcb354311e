"""Trajectories of public implementations, in float64 and with their noise: every point is the same.

parity/published.npz has points x, levels and noise of k-diffusion (kd), diffusers (dif) and EDM (edm), on the
mixture below with its exact denoiser, in the coordinates x = x0 + sigma n.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import mixtures, noise
from jaxscore.samplers import (
    ancestral,
    churn,
    deis,
    dpm_solver_2,
    dpm_solver_pp,
    dpm_solver_pp_2s,
    dpm_solver_pp_sde,
    euler,
    heun,
    lms,
    unipc,
)

PUBLISHED = np.load(Path(__file__).parent / "parity" / "published.npz")
MEANS = [[1.0, 0.5], [-1.2, 0.8], [0.3, -1.4]]

SAMPLERS = {
    "kd_euler": euler(),
    "kd_euler_ancestral": ancestral(),
    "kd_heun": heun(),
    "kd_heun_churn": churn(5.0, heun(), steps=10, sigma_min=0.05, sigma_max=10.0, noise_scale=1.003),
    "kd_dpm_2": dpm_solver_2(),
    "kd_dpm_2_ancestral": ancestral(dpm_solver_2()),
    "kd_lms": lms(4),
    "kd_dpmpp_2s_ancestral": ancestral(dpm_solver_pp_2s()),
    "kd_dpmpp_sde": dpm_solver_pp_sde(),
    "kd_dpmpp_2m": dpm_solver_pp(2),
    "kd_dpmpp_2m_sde_midpoint_eta0": dpm_solver_pp(2),
    "kd_dpmpp_2m_sde_midpoint_eta1": dpm_solver_pp(2, eta=1.0),
    "kd_dpmpp_2m_sde_heun_eta0": dpm_solver_pp(2, variant="heun"),
    "kd_dpmpp_2m_sde_heun_eta1": dpm_solver_pp(2, eta=1.0, variant="heun"),
    "kd_dpmpp_3m_sde_eta0": dpm_solver_pp(3, variant="heun"),
    "kd_dpmpp_3m_sde_eta1": dpm_solver_pp(3, eta=1.0, variant="heun"),
    "edm_sampler": heun(),
    "edm_sampler_churn": churn(40.0, heun(), steps=18, sigma_min=0.05, sigma_max=50.0, noise_scale=1.003),
    "dif_dpmpp_order1_karras": dpm_solver_pp(1),
    "dif_dpmpp_order2_midpoint_karras": dpm_solver_pp(2),
    "dif_dpmpp_order2_heun_karras": dpm_solver_pp(2, variant="heun"),
    "dif_dpmpp_order2_trailing_v": dpm_solver_pp(2),
    "dif_dpmpp_order3_karras": dpm_solver_pp(3),
    "dif_dpmpp_order3_linspace_20": dpm_solver_pp(3),
    "dif_sde_dpmpp_order2_karras": dpm_solver_pp(2, eta=1.0),
    "dif_unipc_order2_bh1": unipc(2, variant="bh1"),
    "dif_unipc_order2_bh2_karras": unipc(2),
    "dif_unipc_order3_bh1": unipc(3, variant="bh1"),
    "dif_unipc_order3_bh2_karras": unipc(3),
    "dif_deis_order2": deis(2),
    "dif_deis_order3": deis(3),
    "dif_ddim_eta0": euler(),
    "dif_ddim_eta0_trailing_v": euler(),
    "dif_ddim_eta1": ancestral(),
    "dif_ddpm_small": ancestral(),
    "dif_heun": heun(),
    "dif_heun_karras": heun(),
}

# With fewer than 15 steps, schedulers of diffusers lower the order of the last steps, counted from the end.
LOWERED = {
    "dif_dpmpp_order3_karras": {2: dpm_solver_pp(2)},
    "dif_deis_order2": {1: deis(1)},
    "dif_deis_order3": {2: deis(2), 1: deis(1)},
}
# UniPC's corrector keeps the order of the step before, so our solvers cannot be put together for these.
LEFT_OUT = {"dif_unipc_order2_bh1": 1, "dif_unipc_order3_bh1": 2, "dif_unipc_order3_bh2_karras": 2}


@pytest.mark.parametrize("case", SAMPLERS)
def test_every_point_is_the_published_one(case, monkeypatch):
    found = lambda name: PUBLISHED[f"{case}/{name}"]
    sigmas, x = found("sigmas"), found("x")
    n = len(sigmas) - 1
    drawn = found("noise") if f"{case}/noise" in PUBLISHED else np.zeros((n, *x.shape[1:]))
    draws = 2 if case == "kd_dpmpp_sde" else 1
    drawn = np.concatenate([drawn, np.zeros((n * draws - len(drawn), *x.shape[1:]))])
    with jax.enable_x64(True):
        score = functools.partial(mixtures.score, mixtures.isotropic([0.5, 0.3, 0.2], MEANS, 0.3))

        def step(sampler, z, x, memory, sigma, sigma_next):
            waiting = list(z)
            monkeypatch.setattr(noise, "normal", lambda key, shape, dtype: waiting.pop(0))
            return sampler.step(jax.random.key(0), x, memory, score, sigma, sigma_next)

        sampler, lowered = SAMPLERS[case], LOWERED.get(case, {})
        compiled = {id(each): jax.jit(functools.partial(step, each)) for each in (sampler, *lowered.values())}
        point = jnp.asarray(x[0])
        memory = sampler.init(point)
        for i in range(n - LEFT_OUT.get(case, 0)):
            now = compiled[id(lowered.get(n - i, sampler))]
            z = jnp.asarray(drawn[draws * i : draws * (i + 1)])
            point, memory = now(z, point, memory, jnp.asarray(sigmas[i]), jnp.asarray(sigmas[i + 1]))
            np.testing.assert_allclose(point, x[i + 1], rtol=1e-10, atol=1e-10)
