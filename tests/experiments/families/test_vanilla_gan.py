"""The original GAN is gan.py without R1 penalty and without groups."""

from experiments.families import gan, vanilla_gan


def test_it_is_built_alike_and_has_neither_penalty_nor_groups():
    ours, theirs = vars(vanilla_gan.Config()), vars(gan.Config())
    changed = {name: ours[name] for name in ours if ours[name] != theirs[name]}
    assert changed == {"penalty": 0.0, "group": 1}
    assert vanilla_gan.build is gan.build
    assert vanilla_gan.evaluations is gan.evaluations
