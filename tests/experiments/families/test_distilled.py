"""Distillation is consistency.py with the teacher as the source."""

from experiments.families import consistency, distilled
from tests.experiments.families import small


def test_the_source_is_the_teacher():
    assert (distilled.Config().source, consistency.Config().source) == ("teacher", "data")
    assert distilled.build(small.config("distilled")).name == "families.distilled"
    assert distilled.evaluations is consistency.evaluations
