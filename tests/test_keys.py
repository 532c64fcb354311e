"""Named streams do not share keys, and nothing else makes a key from a run's seed."""

import ast
from pathlib import Path

import jax
import numpy as np

from jaxscore import keys, noise
from jaxscore.keys import Stream

ROOT = Path(__file__).parent.parent


def test_streams_never_share_a_key():
    """Neither do the keys that training makes of its steps, and sampling and data of their rows."""
    folded = [noise.row_keys(keys.stream(seed, name), 50) for seed in (0, 1) for name in Stream]
    data = np.concatenate([jax.random.key_data(each) for each in folded])
    assert len(np.unique(data, axis=0)) == len(data) == 2 * len(Stream) * 50


def test_a_stream_is_the_seeds_key_folded_with_its_number():
    expected = jax.random.fold_in(jax.random.key(7), 2)
    found = keys.stream(7, Stream.SAMPLE)
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(expected))
    assert [name.value for name in Stream] == list(range(6))


def test_nobody_else_makes_a_key_from_a_seed():
    """Outside keys.py, jax.random.key is given a constant, for shapes and for fixed test points."""
    offenders = []
    for path in [*(ROOT / "jaxscore").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            made = isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "jax.random.key",
                "jax.random.PRNGKey",
            )
            if made and not isinstance(node.args[0], ast.Constant) and path.name != "keys.py":
                offenders.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not offenders
