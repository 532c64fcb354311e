"""The house rules: sizes, who may import whom, and what `import jaxscore` costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxscore"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]
TREES = {path: ast.parse(path.read_text()) for path in FILES}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports(path):
    """Every module that a file imports anywhere, `from a import b` being a.b if that is a module."""
    found = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in full if name in MODULES} or {node.module}
    return found


def test_there_is_something_to_check():
    assert len(FILES) > 15
    assert "jaxscore.samplers.base" in MODULES


# Sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 260


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_functions_are_short(path):
    for node in ast.walk(TREES[path]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= node.body[0].end_lineno - node.body[0].lineno + 1
            assert lines <= 45, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_public_name_has_a_docstring(path):
    tree = TREES[path]
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, DEFINITIONS) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.name != "__init__.py"],
    ids=lambda p: p.stem,
)
def test_every_module_has_its_tests(path):
    folder = ROOT / "tests" / path.parent.relative_to(PACKAGE)
    assert (folder / f"test_{path.name}").is_file()


# Imports ------------------------------------------------------------------------------------------

LAYERS = {
    "jaxscore.types": set(),
    "jaxscore.noise": {"types"},
    "jaxscore.score": {"types"},
    "jaxscore.objectives": {"types", "noise"},
    "jaxscore.diagnostics": {"types", "noise"},
    "jaxscore.mixtures": {"types", "noise"},
    "jaxscore.ema": {"types"},
    "jaxscore.trainer": {"types", "ema"},
    "jaxscore.checkpoint": {"types", "trainer", "checkpoint"},
    "jaxscore.data": {"types", "noise", "mixtures", "data"},
    "jaxscore.calibrate": {"types", "calibrate"},
    "jaxscore.plan": {"plan"},
    "jaxscore.sharding": set(),
    "jaxscore.samplers": {"types", "noise", "samplers"},
    "jaxscore.inverse": {"types", "noise", "samplers"},
    "jaxscore.adversarial": {"types", "noise", "adversarial", "samplers"},
    "jaxscore.networks": {"types", "networks"},
    "jaxscore.importers": {"types", "networks", "importers"},
    "jaxscore.metrics": {"types", "sharding", "metrics"},
    "jaxscore.launch": {"checkpoint", "data", "ema", "launch", "noise", "sharding", "trainer", "types"},
}
"""What each module, or folder of modules, may import of the library. Not more than it does: a new
arrow is a decision, and is made here."""


def area(module):
    return ".".join(module.split(".")[:2])


def test_imports_follow_the_layers():
    areas = {area(module) for module in MODULES} - {"jaxscore"}
    assert areas == set(LAYERS)
    for module, path in MODULES.items():
        for imported in imports(path):
            if imported.startswith("jaxscore.") and module != "jaxscore":
                short = area(imported).removeprefix("jaxscore.")
                assert short in LAYERS[area(module)], f"{module} imports {imported}"


def test_imports_go_round_in_no_circle():
    graph = {module: {i for i in imports(path) if i in MODULES} for module, path in MODULES.items()}
    done = set()

    def visit(module, trail):
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for imported in graph[module]:
                visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_networks_know_flax_and_nobody_knows_flags(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"experiments", "tests", "absl"}
    assert "launch" in path.parts or not roots & {"tyro", "rich", "matplotlib"}
    if "networks" not in path.parts:
        assert "flax" not in roots


# The cost of `import jaxscore` --------------------------------------------------------------------

HEAVY = {"flax", "orbax", "optax", "scipy.stats", "sklearn", "matplotlib", "torch"}
HEAVY |= {"tensorflow", "tensorflow_datasets", "tyro", "grain"}

PROBE = """
import sys, time
import jax
start = time.perf_counter()
import jaxscore
print(time.perf_counter() - start)
print(",".join(sys.modules))
"""


def test_importing_the_library_is_quick_and_pulls_in_nothing_heavy():
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy
        result = subprocess.run(
            [sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True
        )
        elapsed, modules = result.stdout.split("\n")[:2]
        assert not set(modules.split(",")) & HEAVY
        seconds.append(float(elapsed))
    assert min(seconds) <= 0.5


def test_every_module_is_an_attribute_imported_when_it_is_used():
    lines = [
        "import sys, jaxscore as js",
        "assert 'jaxscore.objectives' not in sys.modules",
        "assert js.objectives.denoising and js.samplers.heun",
        "assert not {'flax', 'orbax', 'sklearn'} & set(sys.modules)",
        "assert all(getattr(js, name) for name in js.__all__)",
        "assert set(js.__all__) <= set(dir(js))",
        "print(' '.join(js.__all__))",
    ]
    result = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == sorted(area.removeprefix("jaxscore.") for area in LAYERS)


def test_a_name_that_is_not_there_is_an_attribute_error():
    import jaxscore

    with pytest.raises(AttributeError, match="nothing"):
        jaxscore.nothing  # noqa: B018
