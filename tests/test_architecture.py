"""The house rules: sizes, who may import whom, and what `import jaxscore` costs.

Each question is asked once, and its answer names every offender.
"""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TREES = {
    path.relative_to(ROOT): ast.parse(path.read_text())
    for top in ("jaxscore", "experiments", "tests")
    for path in sorted((ROOT / top).rglob("*.py"))
}
SOURCES = {path: tree for path, tree in TREES.items() if path.parts[0] != "tests"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def module_name(path):
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_command(statement):
    return isinstance(statement, ast.If) and "__main__" in ast.unparse(statement.test)


MODULES = {module_name(path): path for path in SOURCES}


def imports(path):
    """Every module that a file imports, but as a command; `from a import b` is a.b if that is a module."""
    found = set()
    library = [node for node in TREES[path].body if not is_command(node)]
    for node in ast.walk(ast.Module(library, [])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in full if name in MODULES} or {node.module}
    return found


IMPORTS = {module: imports(path) for module, path in MODULES.items()}


def none(offenders):
    if offenders := list(offenders):
        pytest.fail("\n".join(offenders), pytrace=False)


def test_there_is_something_to_check():
    assert len(SOURCES) > 100
    assert IMPORTS["jaxscore.samplers.sde"] >= {"jaxscore.samplers.base", "jax.numpy"}


# Sizes and names ----------------------------------------------------------------------------------


def test_files_are_short():
    counted = ((path, len((ROOT / path).read_text().splitlines())) for path in SOURCES)
    none(f"{path}: {lines} lines" for path, lines in counted if lines > 280)


def functions(trees):
    return ((path, n) for path, tree in trees.items() for n in ast.walk(tree) if isinstance(n, FUNCTIONS))


def length(function):
    """Lines without the docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    return lines - (function.body[0].end_lineno - function.body[0].lineno + 1)


def test_functions_are_short():
    none(f"{path}: {n.name} has {length(n)} lines" for path, n in functions(SOURCES) if length(n) > 45)


def test_every_public_name_has_a_docstring():
    for path, tree in SOURCES.items():
        assert ast.get_docstring(tree), path
    public = (
        (path, node)
        for path, tree in SOURCES.items()
        for node in tree.body
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_")
    )
    none(f"{path}: {node.name}" for path, node in public if ast.get_docstring(node) is None)


def test_every_module_has_its_tests():
    """tests/ mirrors experiments/, and jaxscore/ without its first folder."""
    modules = [path for path in SOURCES if path.name not in ("__init__.py", "__main__.py")]
    mirror = lambda path: path.relative_to("jaxscore") if path.parts[0] == "jaxscore" else path
    wanted = (Path("tests") / mirror(path).with_name(f"test_{path.name}") for path in modules)
    none(f"{path} is missing" for path in wanted if path not in TREES)


def test_names_of_tests_are_short():
    """At most 60 characters; a docstring says what does not fit."""
    none(f"{path}: {n.name} has {len(n.name)}" for path, n in functions(TREES) if len(n.name) > 60)


# Who may import whom ------------------------------------------------------------------------------

ARROWS = {
    "jaxscore": {
        "types": "",
        "keys": "types",
        "noise": "types",
        "score": "types",
        "objectives": "types noise",
        "guidance": "types noise score",
        "diagnostics": "types noise",
        "mixtures": "types noise",
        "ema": "types",
        "updates": "types",
        "trainer": "types ema updates",
        "checkpoint": "types trainer",
        "data": "types keys noise mixtures",
        "calibrate": "types",
        "plan": "",
        "sharding": "",
        "samplers": "types noise",
        "inverse": "types noise mixtures sharding samplers",
        "likelihood": "types noise objectives samplers",
        "consistency": "types noise samplers",
        "adversarial": "types noise samplers",
        "networks": "types",
        "importers": "types noise score networks",
        "metrics": "types sharding networks importers",
        "launch": "types keys noise data ema updates trainer checkpoint sharding metrics",
    },
    "experiments": {
        "common": "",
        "digits": "common",
        "edm": "common",
        "toy2d": "common",
        "ncsn": "common",
        "theorems": "",
        "cost": "common",
        "families": "common",
        "trilemma": "families",
        "bench": "common digits edm ncsn plan",
        "plan": "common",
        "posterior": "",
        "restore": "common",
        "calibrate": "",
        "classifier": "common",
        "distill": "common",
        "ema": "",
        "lecture": "toy2d trilemma",
        "likelihood": "common",
        "sbi": "",
        "solvers": "common distill",
        "prepare": "",
        "import_weights": "ncsn",
        "export_weights": "",
    },
}
"""What each module or folder may import of its tree, beside itself. Not more than it does: a new arrow
is a decision, and is made here."""

FLOORS = {
    "jaxscore.adversarial": "losses denoising",
    "jaxscore.calibrate": "levels spread < recipes",
    "jaxscore.checkpoint": "integrity < store < restoring < snapshots",
    "jaxscore.consistency": "functions levels reflow < matching",
    "jaxscore.data": """augment pixels formats.tfrecord < images
        < checks formats.numpy_files formats.pictures < arrays
        < fingerprints formats.folder formats.idx formats.records stream < formats.tfds < load""",
    "jaxscore.importers": """description ncsn pickles weights < edm inception safetensors score_sde
        < diffusers < families""",
    "jaxscore.inverse": """operators.linear < operators.images operators.transforms measured
        < exact guided particles replacement""",
    "jaxscore.launch": """compiler console flags plots signals workdir < optimizer tensorboard untrusted
        < metrics_log processes < config < experiment < programs provenance validation < summaries
        < export pictures sample < fid train < evaluate open_run
        < page rehearsal < run < view""",
    "jaxscore.likelihood": "flow < bound dequantise",
    "jaxscore.metrics": """bootstrap device_neighbours distances features images kernels modes
        numbers < calibration two_sample inception neighbours < copies coverage < compare""",
    "jaxscore.networks": """autoencoder convolution inception layers resampling < blocks
        < adm ddpm discriminator dit edm2 generator mlp refinenet unet < ncsn""",
    "jaxscore.noise": "ddpm rows schedules",
    "jaxscore.objectives": "weights < matching < levels",
    "jaxscore.plan": "chips hlo topologies < loops work < exchange < bounds",
    "jaxscore.score": "coordinates parametric",
    "jaxscore.samplers": """prior < base < adaptive consistent multistep ode statistics < grids langevin sde
        < metropolis""",
    "experiments.bench": "workloads < sampling scaling training < run",
    "experiments.common": "features langevin runs timing < report",
    "experiments.cost": "steps < run",
    "experiments.digits": "config < report < experiment",
    "experiments.edm": "config < models presets report sources < experiment",
    "experiments.import_weights": "config < experiment ncsn < run",
    "experiments.families": """budget setting < judging likelihood < family
        < adversaries ddpm edm flow ncsn students vae < consistency ddgan gan overrides reflow
        < ddgan_presets distilled vanilla_ddgan vanilla_gan""",
    "experiments.likelihood": "config mixtures report < measure < host < run",
    "experiments.ncsn": "ablation config report < experiment",
    "experiments.plan": "programs recipes < report < run",
    "experiments.posterior": "problems report < methods < run",
    "experiments.restore": "config judge < methods report < run",
    "experiments.sbi": """config coordinates network priors < posterior tasks < references simulations
        < judging < report < experiment < opened""",
    "experiments.solvers": "methods report < run",
    "experiments.theorems": "models < rows < run",
    "experiments.trilemma": "report < run",
}
"""Inside a folder, and the folders in it, a module may import those of earlier floors."""

ROOMS = {
    "flax": "jaxscore.networks",
    "tyro": "jaxscore.launch",
    "rich": "jaxscore.launch",
    "diffrax": "jaxscore.samplers",
    "equinox": "jaxscore.samplers",
    "matplotlib": "jaxscore.launch",
    "absl": "",
    "experiments": "",
    "tests": "",
}
"""The only rooms of the library that know a package."""


def inside(module, folder):
    """The module's name in a folder, or '' if it is not in it."""
    return module.removeprefix(f"{folder}.") if module.startswith(f"{folder}.") else ""


def room(module, folder):
    """The part of a folder that the module belongs to."""
    return inside(module, folder).split(".")[0]


def arrows(folder, part):
    """(module, its part of the folder, the part that it imports), where these are two."""
    for module in MODULES:
        for imported in IMPORTS[module]:
            here, there = part(module, folder), part(imported, folder)
            if here and there and here != there:
                yield module, here, there


@pytest.mark.parametrize("top", ARROWS)
def test_imports_are_those_that_were_decided(top):
    allowed = {name: names.split() for name, names in ARROWS[top].items()}
    none({room(module, top) for module in MODULES} - {""} ^ set(allowed))
    none(
        f"{module} imports {there}" for module, here, there in arrows(top, room) if there not in allowed[here]
    )


def test_imports_inside_a_folder_go_down_its_floors():
    packages = {module_name(path) for path in SOURCES if path.name == "__init__.py"}
    for folder, plan in FLOORS.items():
        floors = {name: number for number, floor in enumerate(plan.split("<")) for name in floor.split()}
        modules = {inside(module, folder) for module in MODULES if module not in packages} - {"", "__main__"}
        assert modules == set(floors), folder
        floors |= {"__main__": len(floors)}
        crossing = [each for each in arrows(folder, inside) if set(each[1:]) <= set(floors)]
        none(f"{m} imports {there}" for m, here, there in crossing if floors[there] >= floors[here])
    assert {each for each in packages if each.count(".") == 1} == set(FLOORS)


def test_imports_go_round_in_no_circle():
    # Raises an error that names the circle.
    graphlib.TopologicalSorter({module: IMPORTS[module] & set(MODULES) for module in MODULES}).prepare()


def test_a_package_is_known_in_its_room_only():
    library = [module for module in MODULES if module.startswith("jaxscore")]
    known = [(module, name.split(".")[0]) for module in library for name in IMPORTS[module]]
    outside = lambda module, folder: module != folder and not inside(module, folder)
    none(f"{m} imports {package}" for m, package in known if package in ROOMS and outside(m, ROOMS[package]))


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


def python(code):
    """The lines that a new process prints."""
    options = {"cwd": ROOT, "capture_output": True, "text": True, "check": True}
    return subprocess.run([sys.executable, "-c", code], **options).stdout.split("\n")


def test_importing_the_library_is_quick_and_light():
    for _ in range(3):  # the best of three: the machine may be busy
        elapsed, modules = python(PROBE)[:2]
        assert not set(modules.split(",")) & HEAVY
        if float(elapsed) <= 0.5:
            return
    pytest.fail(f"{elapsed} seconds")


ATTRIBUTES = """
import sys, jaxscore as js
assert 'jaxscore.objectives' not in sys.modules
assert js.objectives.denoising and js.samplers.heun
assert not {'flax', 'orbax', 'sklearn'} & set(sys.modules)
assert all(getattr(js, name) for name in js.__all__)
assert set(js.__all__) <= set(dir(js))
print(' '.join(js.__all__))
"""


def test_every_module_is_an_attribute_imported_when_it_is_used():
    (names, *_) = python(ATTRIBUTES)
    assert names.split() == sorted(ARROWS["jaxscore"])


def test_a_name_that_is_not_there_is_an_attribute_error():
    import jaxscore

    with pytest.raises(AttributeError, match="nothing"):
        jaxscore.nothing  # noqa: B018
