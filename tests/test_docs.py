"""README and the documentation are right: snippets run; commands, flags, files and names exist.

The cells of the notebooks run when the site is built (`make docs`); here they are parsed.
"""

import ast
import dataclasses
import importlib
import importlib.util
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import jaxscore
from experiments.ncsn import experiment as ncsn
from tests import compiler

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", ROOT / "experiments" / "README.md", *sorted(DOCS.rglob("*.md"))]
    if "_build" not in path.parts
}
README = PAGES["README.md"]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


# Code -----------------------------------------------------------------------------------------------

WITH_PYTHON = [name for name, text in PAGES.items() if blocks(text, "python")]


@pytest.mark.parametrize("name", WITH_PYTHON)
def test_the_python_snippets_run_one_after_another(name, capsys, tmp_path, monkeypatch):
    """What a snippet prints stands behind its `print`, as a comment."""
    monkeypatch.chdir(tmp_path)
    source = "\n".join(blocks(PAGES[name], "python"))
    if name == "README.md":  # its training would take minutes without the compiler's optimisation
        options = {"cwd": ROOT, "env": os.environ | {"XLA_FLAGS": ""}, "capture_output": True, "text": True}
        finished = subprocess.run([sys.executable, "-c", source], **options, check=False)
        assert finished.returncode == 0, finished.stderr
        out = finished.stdout
    else:
        exec(compile(source, name, "exec", dont_inherit=True), {})
        out = capsys.readouterr().out
    said = [line.split("  # ")[1] for line in source.splitlines() if line.startswith("print(")]
    assert said
    # A run prints its progress and a picture's path too; what snippets print stands in this order.
    printed = iter(out.splitlines())
    assert all(line in printed for line in said)


def test_there_are_pages_with_snippets():
    assert {"README.md", "docs/concepts/samplers.md", "docs/contributing/skeletons.md"} <= set(WITH_PYTHON)


def test_the_cells_of_notebooks_are_python():
    cells = {name: blocks(text, r"\{code-cell\}") for name, text in PAGES.items()}
    assert sum(map(len, cells.values())) > 30
    for name, found in cells.items():
        for cell in found:
            if not cell.startswith("%%sh"):
                ast.parse(re.sub(r"^%%.*\n", "", cell), filename=name)


@pytest.mark.slow
def test_the_flags_snippet_runs(tmp_path):
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    (line,) = [line for line in lines if line.startswith("python -m experiments.digits")]
    words = shlex.split(line)
    words[words.index("--workdir") + 1] = str(tmp_path / "run")
    environment = os.environ | compiler.environment()
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True}
    finished = subprocess.run([sys.executable, *words[1:]], **options, check=False)
    assert finished.returncode == 0, finished.stderr
    table = PAGES["docs/start/digits.md"].replace("report/*.png", "report/samples.png")
    files = re.findall(r"^\| `([\w./]+)` \|", table, flags=re.MULTILINE)
    assert len(files) == 8
    assert [name for name in files if not (tmp_path / "run" / name).exists()] == []


# Commands -------------------------------------------------------------------------------------------


def test_make_has_every_target_that_is_mentioned():
    code = "\n".join("\n".join([*blocks(text, "sh"), *re.findall("`.*?`", text)]) for text in PAGES.values())
    targets = set(re.findall(r"^`?make ([a-z0-9]+)", code, flags=re.MULTILINE))
    assert {"digits", "test", "toy2d", "bench", "lint", "docs"} <= targets
    found = re.findall(r"^([\w -]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert targets <= {target for line in found for target in line.split()}


def flags_of(text):
    """The fields that the flags of a command set."""
    found = re.findall(r"--([a-z][a-z0-9-]*)", text.split("#")[0])
    return {flag.replace("-", "_").removeprefix("no_") for flag in found}


NCSN_FLAGS = {field.name for field in dataclasses.fields(ncsn.Config)}


def test_every_flag_is_one_of_its_program():
    """Programs are named in code; `...` and variables stand for the rest."""
    seen = 0
    for text in PAGES.values():
        for name, rest in re.findall(r"python -m experiments\.([\w.]+)([^\n`]*)", text.replace("\\\n", " ")):
            config = importlib.import_module(f"experiments.{name}").Config
            others = NCSN_FLAGS if name == "plan" else set()  # plan takes those of the experiment
            known = {field.name for field in dataclasses.fields(config)} | others
            assert flags_of(rest) <= known, f"experiments.{name} has no {flags_of(rest) - known}"
            seen += len(flags_of(rest))
    assert seen > 60


def test_flags_of_the_pods_table_are_flags_of_every_experiment():
    table = re.findall(r"^\| `(--.*?)` \|", PAGES["docs/scale/pods.md"], flags=re.MULTILINE)
    assert len(table) > 6
    assert flags_of(" ".join(table)) <= NCSN_FLAGS


def test_every_experiment_has_its_line():
    """README of experiments/ names all that can be run, and nothing else."""
    folder = ROOT / "experiments"
    runnable = {path.parent.name for path in folder.glob("*/__main__.py")}
    runnable |= {path.stem for path in folder.glob("*.py") if "__main__" in path.read_text()}
    named = set(re.findall(r"^\| `python -m experiments\.(\w+)", PAGES["experiments/README.md"], flags=re.M))
    assert named - {"families"} == runnable


# Files and names ------------------------------------------------------------------------------------


def test_readme_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_is_mentioned_exists(name):
    here = (ROOT / name).parent
    links = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", PAGES[name])
    links += re.findall(r"```\{image\} (\S+)", PAGES[name])
    paths = re.findall(r"`((?:jaxscore|experiments|tests|docs)/[\w/.]+)`", PAGES[name])
    mentioned = [here / link for link in links] + [ROOT / path for path in paths]
    assert [path for path in mentioned if not path.exists()] == []


def test_every_picture_is_shown():
    """By a page that says what it is."""
    shown = {Path(path).name for text in PAGES.values() for path in re.findall(r"\{image\} (\S+)", text)}
    assert shown == {path.name for path in (DOCS / "pictures").glob("*.png")}


def test_names_are_in_the_files_in_which_a_newcomer_finds_them():
    table = PAGES["docs/contributing/index.md"]
    found = re.findall(r"`(\w+)`(?: and `(\w+)`)? (?:in|of) `([\w/]+\.py)`", table)
    assert len(found) > 8
    for *names, path in found:
        for name in filter(None, names):
            assert re.search(rf"^(def|class) {name}\b", (ROOT / path).read_text(), flags=re.M), (name, path)


def test_every_module_has_its_page():
    modules = {module.name for module in pkgutil.iter_modules(jaxscore.__path__)}
    pages = {path.stem for path in (DOCS / "api").glob("*.md")} - {"index"}
    assert modules <= pages
    for module in modules:
        assert f"automodule:: jaxscore.{module}\n" in PAGES[f"docs/api/{module}.md"]
        assert f"({module}.md)" in PAGES["docs/api/index.md"]


# Docstrings on the pages ----------------------------------------------------------------------------


def test_docstrings_are_shown_as_they_are():
    """Only code, indented blocks, examples, lists, tables and sections are markup."""
    place = DOCS / "_ext" / "plain_docstrings.py"
    spec = importlib.util.spec_from_file_location("plain_docstrings", place)
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    text = """1/2 |s*|^2 + x_ of `f(x)` and
this.

    a *block*

    of two

>>> f(1)
2

Args:
    low, high: the |ends|
        of it.
"""
    assert extension.to_rst(text.splitlines()) == [
        r"\ 1/2 \|s\*\|^2 + x\_ of \ ``f(x)``\  and this.",
        "",
        *(".. code-block:: text", "", "    a *block*", "    ", "    of two", ""),
        *(">>> f(1)", "2", ""),
        *(":Args:", "    ``low, high``", r"        the \|ends\| of it.", ""),
    ]
