"""The wheel holds jaxscore alone, its core is small, and what needs an extra says which, in one line."""

import ast
import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from packaging.requirements import Requirement

from experiments import prepare
from experiments.common import features
from experiments.families import flow
from jaxscore import data, importers, plan, samplers
from jaxscore.data import DataError
from jaxscore.launch import Config, FlagError
from tests import compiler

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxscore"
CORE = {"flax", "jax", "jaxtyping", "numpy", "optax", "orbax-checkpoint"}
EXTRAS = "cuda data docs experiments launch metrics notebooks plan solvers tensorboard test tpu weights"


# The wheel ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """jaxscore's wheel, built from a copy, so that no older build is packed with it; needs no network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("jaxscore", "experiments", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", out]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)
    (path,) = out.glob("*.whl")
    return path


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def requirements(wheel: Path, extra: str = "") -> set[str]:
    """Names of the packages that the extra, or the core, asks for; jaxscore[x] stands for another extra."""
    found = map(Requirement, metadata(wheel).get_all("Requires-Dist"))
    asked = [one for one in found if (one.marker.evaluate({"extra": extra}) if one.marker else not extra)]
    return {name for one in asked for name in ([f"{one.name}[{x}]" for x in one.extras] or [one.name])}


def test_the_wheel_holds_jaxscore_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")}
    assets = {str(path.relative_to(ROOT)) for path in (PACKAGE / "launch" / "assets").iterdir()}
    assert len(assets) == 5
    assert held == modules | assets | {"jaxscore/py.typed"}


def test_the_core_is_small_and_the_extras_are_named(wheel):
    assert requirements(wheel) == CORE
    assert " ".join(sorted(metadata(wheel).get_all("Provides-Extra"))) == EXTRAS
    assert requirements(wheel, "launch") == {"matplotlib", "msgspec", "pillow", "rich", "tyro"}
    others = {f"jaxscore[{extra}]" for extra in ("data", "launch", "metrics", "weights", "solvers")}
    assert requirements(wheel, "experiments") == {"flowjax"} | others


# Environments that lack a package -----------------------------------------------------------------


LAUNCH, TFDS, PREPARED = "jaxscore.launch", "tfds:digits8x8", ROOT / "tests" / "data" / "prepared"
IMAGES, LABELS = np.zeros((2, 8, 8, 1), np.float32), np.zeros(2, np.int32)
SPLITS = {"train": data.Dataset(IMAGES, LABELS)}


def adaptive(x):
    return samplers.adaptive(jnp.asarray(x), lambda x, sigma: -x, sigma_max=2.0, sigma_min=1.0)


def read_safetensors(path):
    (path / "file.safetensors").touch()
    importers.safetensors.arrays(path / "file.safetensors")


NEEDED = [
    ("tyro msgspec rich matplotlib PIL", "launch", ImportError, lambda _: importlib.import_module(LAUNCH)),
    ("sklearn", "data", DataError, lambda _: data.load("digits")),
    ("PIL", "data", DataError, lambda path: data.load(f"folder:{path}")),
    ("PIL tensorflow_datasets google_crc32c", "data", DataError, lambda _: data.load(TFDS, PREPARED)),
    ("tensorflow_datasets", "data", DataError, lambda path: prepare.write(path, "zeros", SPLITS)),
    ("sklearn", "experiments", ImportError, lambda _: features.classifier(IMAGES, LABELS)),
    ("flowjax", "experiments", FlagError, lambda _: flow.flow(flow.Config(), 2)),
    ("tensorboardX", "tensorboard", FlagError, lambda path: Config(workdir=path, tensorboard=True)),
    ("safetensors", "weights", ImportError, read_safetensors),
    ("diffrax equinox", "solvers", ImportError, lambda _: adaptive(np.zeros((1, 2)))),
    ("libtpu", "plan", ImportError, lambda _: plan.topology("v5e:1x1")),
]
ABSENT = [(package, *needed) for packages, *needed in NEEDED for package in packages.split()]


@pytest.mark.parametrize(("package", "extra", "error", "call"), ABSENT)
def test_what_needs_an_extra_says_which_in_one_line(monkeypatch, tmp_path, package, extra, error, call):
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        monkeypatch.setitem(sys.modules, name, None)  # else a submodule that is loaded would be found
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, LAUNCH)
    with pytest.raises(error, match=rf"^[^\n]*[:;] pip install 'jaxscore\[{extra}\]'$"):
        call(tmp_path)


def test_no_other_package_is_imported_by_the_library():
    """Grain is read ahead with where it is installed, and done without where it is not."""
    core = {"flax", "jax", "jaxtyping", "numpy", "optax", "orbax", "scipy"}  # jax brings scipy
    core |= {"threadpoolctl"}  # scikit-learn brings it, and is imported before
    roots = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                roots.add(node.module.partition(".")[0])
    optional = {package for package, *_ in ABSENT if package != "flowjax"} | {"grain"}
    assert roots - sys.stdlib_module_names - {"jaxscore"} == core | optional


PROBE = """
import importlib, pkgutil, sys
sys.modules |= dict.fromkeys({absent}, None)
import jaxscore
for module in pkgutil.walk_packages(jaxscore.__path__, "jaxscore."):
    if not module.name.startswith("jaxscore.launch"):
        importlib.import_module(module.name)
"""


def test_the_core_is_enough_for_all_but_the_launcher():
    absent = sorted({package for package, *_ in ABSENT} - {"rich"} | {"grain"})  # Flax brings rich
    subprocess.run([sys.executable, "-c", PROBE.format(absent=absent)], cwd=ROOT, check=True)


# An experiment of one's own, with the wheel alone --------------------------------------------------


def install(wheel: Path, extra: str, packages: Path) -> None:
    """Puts the wheel into a folder, and links to what it asks for, and to what that asks for in turn."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    left, done = requirements(wheel) | requirements(wheel, extra), set()
    while left:
        name = left.pop()
        done.add(name)
        found = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(found.locate_file(top))
        asked = map(Requirement, found.requires or [])
        left |= {one.name for one in asked if not one.marker or one.marker.evaluate({"extra": ""})} - done


@pytest.mark.slow
def test_the_page_s_experiment_runs_with_the_wheel_alone(wheel, tmp_path):
    """In an environment with the extra `launch` and nothing else, from a folder that has nothing else."""
    page = (ROOT / "docs" / "tutorials" / "own_experiment.md").read_text()
    (source,) = re.findall(r"%%writefile my_squares.py\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "my_squares.py").write_text(source)
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8), np.uint8)
    np.savez(tmp_path / "squares.npz", images=images)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (packages,) = (tmp_path / "env").glob("lib/python3*/site-packages")
    install(wheel, "launch", packages)

    def run(*flags):
        command = [python, "my_squares.py", "--channels", "4", "--batch", "16", "--samples", "16", *flags]
        environment = {"PATH": "", "HOME": str(tmp_path), **compiler.environment()}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    first = run("--steps", "20", "--optimizer.kind", "lion", "--save-every", "10")
    assert first.returncode == 0, first.stderr
    again = run("--steps", "30", "--optimizer.kind", "lion")
    assert again.returncode == 0, again.stderr
    assert "step 30/30" in again.stdout
    assert "step 20/30" not in again.stdout  # it went on from there
    folder = tmp_path / "runs" / "squares"
    assert {path.name for path in (folder / "report").glob("*.png")} == {
        "samples.png",
        "nearest.png",
        "loss.png",
    }
    assert (folder / "report" / "index.html").stat().st_size < 5_000_000
    assert "neighbour ratio" in again.stdout
    wrong = run("--chanels", "8")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "--channels" in wrong.stderr
