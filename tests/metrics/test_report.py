import hashlib
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import metrics

REFERENCE = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)
ABOUT = {"n": 50, "reference": REFERENCE, "extractor": "pixels", "rounding": "to 0..255"}


def test_a_number_carries_what_it_was_measured_with():
    found = metrics.described("precision", metrics.Interval(0.5, 0.4, 0.7), **ABOUT)
    assert found[:4] == ("precision", 0.5, 0.4, 0.7)
    assert (found.n, found.reference_n, found.extractor, found.rounding) == (50, 20, "pixels", "to 0..255")
    assert json.loads(metrics.to_json(found)) == found._asdict()
    assert "\n" not in metrics.to_json(found)


def test_without_an_interval_there_is_none():
    found = metrics.described("kid", -0.01, **ABOUT)
    assert (found.value, found.low, found.high) == (-0.01, None, None)
    assert json.loads(metrics.to_json(found))["low"] is None


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_no_number_in_json_is_null(value):
    found = json.loads(metrics.to_json(metrics.described("class_kl", value, **ABOUT)))
    assert found["value"] is None


def test_numpy_s_numbers_are_numbers():
    value = tuple(np.float64(x) for x in (1, 0, 2))
    found = metrics.described("x", value, **{**ABOUT, "n": int(np.int64(3))})
    assert json.loads(metrics.to_json(found))["high"] == 2.0
    assert json.loads(metrics.to_json(found._replace(n=np.int64(3))))["n"] == 3


# The fingerprint ----------------------------------------------------------------------------------


def test_the_fingerprint_is_of_dtype_shape_and_numbers():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = hashlib.sha256(b"<f4 (2, 3)" + x.tobytes()).hexdigest()
    assert metrics.fingerprint(x) == expected
    assert metrics.fingerprint(jnp.asarray(x)) == expected
    changed = x.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
    others = [x.reshape(3, 2), x.ravel(), x.astype(np.float64), x.view(np.int32), changed, x[::-1]]
    assert len({expected, *map(metrics.fingerprint, others)}) == 7


def test_how_the_numbers_lie_in_memory_does_not_matter(tmp_path):
    x = np.random.default_rng(0).standard_normal((5, 3))
    np.save(tmp_path / "x.npy", x)
    same = [
        np.asfortranarray(x),
        x.astype(">f8"),
        x.repeat(2, axis=0)[::2],
        np.load(tmp_path / "x.npy", mmap_mode="r"),
    ]
    assert {metrics.fingerprint(each) for each in same} == {metrics.fingerprint(x)}


def test_every_array_has_a_fingerprint():
    """Arrays without rows, single numbers and half precision have one too."""
    odd = [np.zeros((0, 3)), np.zeros((0, 4)), np.array(1.0), np.array(2.0), jnp.ones(3, jnp.bfloat16)]
    assert len({metrics.fingerprint(each) for each in odd}) == 5
