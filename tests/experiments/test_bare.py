import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import bare, bench
from experiments.flags import FlagError

ROOT = Path(__file__).parents[2]

BLOCK = """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = %r
sys.meta_path.insert(0, Block())
"""

BLOCKED = {"jaxtyping", "tyro", "rich", "orbax", "matplotlib", "grain", "PIL", "sklearn"}
BLOCKED |= {"tensorflow_datasets", "array_record"}


def run(code, *arguments, blocked=frozenset(BLOCKED)):
    program = BLOCK % set(blocked) + code
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


BENCH = """
import jax
jax.config.update("jax_platforms", "cpu")
from experiments import bare, bench, bench_workloads, plan_recipes
import dataclasses
config = plan_recipes.digits.Config(width=8, depth=1, batch=16, samples=16, sample_batch=16)
built = plan_recipes.RECIPES["digits"].build(config)
tiny = bench_workloads.Workload(built, "float32", built, "heun", 17, 17)
bench_workloads.WORKLOADS["digits"] = lambda: tiny
bench.main()
assert bare.ABSENT >= {"tyro", "orbax", "rich", "jaxtyping"}, bare.ABSENT
"""


def test_the_benchmark_runs_where_only_jax_flax_optax_and_numpy_are():
    flags = "--workloads digits --scaling --repeats 1 --matrix 32 --batch 8"
    result = run(BENCH, *flags.split())
    assert result.returncode == 0, result.stderr[-2000:]
    assert "digits: training, images/s" in result.stdout
    assert "digits: sampling by heun, images/s (17 evaluations)" in result.stdout
    assert "checkpoint" not in result.stdout  # there is no Orbax to save one with


def test_a_wrong_flag_is_one_line_there_too():
    code = "from experiments import bench\nbench.main()"
    result = run(code, "--repeatz", "3")
    assert result.returncode == 2
    assert result.stderr == "error: unrecognized arguments: --repeatz 3\n"


STAND_INS = """
from experiments import bare
from typing import NamedTuple
import numpy as np
from jaxtyping import Float
import orbax.checkpoint as ocp
from rich.progress import track

assert Float[np.ndarray, "n"] | None == np.ndarray | None

class Box(NamedTuple):
    inside: ocp.CheckpointManager

class Handler(ocp.handlers.Handler):
    pass

assert Box(3).inside == 3
assert not bare.installed("orbax") and bare.installed("numpy")
try:
    track([1])
except ImportError as error:
    print(error)
"""


def test_stand_ins_can_be_named_and_inherited_from_but_not_used():
    result = run(STAND_INS)
    assert (result.returncode, result.stdout) == (0, "rich.progress.track is not installed\n"), result.stderr


def test_nothing_stands_in_for_what_is_there():
    assert not {"tyro", "rich", "jaxtyping", "orbax", "matplotlib"} & bare.ABSENT
    assert bare.installed("tyro")
    assert not bare.installed("no_such_package")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    names: tuple[str, ...] = ("a", "b")
    repeats: int = 3
    rate: float = 0.5
    fast: bool = True
    out: Path | None = None


def test_flags_are_the_same_without_tyro(monkeypatch):
    line = ["--names", "x", "y", "z", "--repeats", "5", "--rate", "2", "--no-fast", "--out", "there.json"]
    expected = Config(names=("x", "y", "z"), repeats=5, rate=2.0, fast=False, out=Path("there.json"))
    assert bare.parse(Config(), line) == expected
    monkeypatch.setattr(bare, "ABSENT", {"tyro"})
    assert bare.parse(Config(), line) == expected
    assert bare.parse(Config(), []) == Config()
    with pytest.raises(FlagError, match="invalid int value: 'many'"):
        bare.parse(Config(), ["--repeats", "many"])
    with pytest.raises(FlagError, match="--repeats 0: must be at least 1"):
        bare.parse(bench.Config(), ["--repeats", "0"])
