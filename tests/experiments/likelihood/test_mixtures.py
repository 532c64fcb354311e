import numpy as np

from experiments.likelihood import mixtures


def test_every_estimate_is_right_in_every_dimension(monkeypatch):
    monkeypatch.setattr(mixtures, "DIMENSIONS", (2, 16))
    monkeypatch.setattr(mixtures, "PROBES", 12)
    monkeypatch.setattr(mixtures, "DRAWS", 100)
    found = mixtures.rows(60)
    assert [(row["dimensions"], row["estimate"]) for row in found] == [
        (2, "exact trace"),
        (2, "variational bound"),
        (16, "exact trace"),
        (16, "12 probes"),
        (16, "variational bound"),
    ]
    for row in found:
        assert (row["within_3"] is None) == (row["estimate"] != "12 probes")
        if row["estimate"] == "exact trace":
            assert row["largest"] < 0.01
        else:
            # The bound loses up to 0.1 nats in each dimension to its decoder, as wide as a component.
            lost = row["dimensions"] / 10 if row["estimate"] == "variational bound" else 0.0
            reach = 3 * row["stated"] / np.sqrt(60)
            assert -lost - reach < row["mean"] < reach
            assert row["within_3"] is None or row["within_3"] > 0.9
    assert mixtures.table(found).count("\n") == len(found) + 1
