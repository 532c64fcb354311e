"""The vanilla denoising diffusion GAN is ddgan.py without R1 penalty and without groups."""

from experiments.families import ddgan, vanilla_ddgan


def test_it_is_built_alike_and_has_neither_penalty_nor_groups():
    ours, theirs = vars(vanilla_ddgan.Config()), vars(ddgan.Config())
    changed = {name: ours[name] for name in ours if ours[name] != theirs[name]}
    assert changed == {"penalty": 0.0, "group": 1}
    assert vanilla_ddgan.build is ddgan.build
    assert vanilla_ddgan.evaluations is ddgan.evaluations
