"""Reports: a number with all that it takes to compare it with another.

>>> reference = np.zeros((200, 4), np.float32)
>>> kid = described("kid", 0.012, n=100, reference=reference, extractor="none", rounding="none")
>>> kid.reference_n, kid.reference_hash[:8]
(200, '61f14f7a')
>>> to_json(kid)[:40]
'{"name": "kid", "value": 0.012, "low": n'
"""

import hashlib
import json
import math
from typing import NamedTuple

import numpy as np

from jaxscore.types import AnyArray


class Described(NamedTuple):
    """A number, its interval (None without one), and what it was measured with.

    n and reference_n are the numbers of samples and of reference examples, `extractor` is the name of the
    network that made the features, `rounding` what was done to pixels before ("round to 0..255", say).
    """

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    reference_n: int
    extractor: str
    rounding: str
    reference_hash: str


def described(
    name: str,
    value: float | tuple[float, float, float],
    *,
    n: int,
    reference: AnyArray,
    extractor: str,
    rounding: str,
) -> Described:
    """A value, or (value, low, high), as an `Interval` is, of n samples against the reference examples.

    The reference is what the samples were compared with before any features: its hash tells whether two
    numbers are of the same one.
    """
    value, low, high = value if isinstance(value, tuple) else (value, None, None)
    return Described(name, value, low, high, n, len(reference), extractor, rounding, fingerprint(reference))


def fingerprint(x: AnyArray) -> str:
    """SHA-256, as 64 hexadecimal digits, of the array's dtype, its shape and its numbers.

    Of the numbers row by row and least byte first, wherever and however they lie in memory.
    """
    x = np.asarray(x)
    x = x.astype(x.dtype.newbyteorder("<"), copy=False)
    digest = hashlib.sha256(f"{x.dtype.str} {x.shape}".encode())
    digest.update(np.ascontiguousarray(x).view(np.uint8).reshape(-1) if x.size else b"")
    return digest.hexdigest()


def to_json(number: Described) -> str:
    """One line of JSON; what JSON has no number for, infinite or not a number, is null."""
    plain = {key: _plain(value) for key, value in number._asdict().items()}
    return json.dumps(plain, allow_nan=False)


def _plain(value):
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
