"""The README's commands exist and its snippets run, in the order in which they stand."""

import dataclasses
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.ncsn import experiment as ncsn

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_snippets_run_one_after_another(capsys):
    scope: dict = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), scope)
    said = [
        line.split("# ")[1] for block in blocks("python") for line in block.splitlines() if "print(" in line
    ]
    assert capsys.readouterr().out.splitlines() == said
    assert len(said) == 3


@pytest.mark.slow
def test_the_flags_snippet_runs(tmp_path):
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    (line,) = [line for line in lines if line.startswith("python -m experiments.digits")]
    words = shlex.split(line)
    words[words.index("--workdir") + 1] = str(tmp_path / "run")
    finished = subprocess.run(
        [sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    for name in (
        "config.json",
        "metrics.jsonl",
        "checkpoints",
        "samples.npz",
        "metrics.json",
        "report/samples.png",
    ):
        assert (tmp_path / "run" / name).exists(), name


def test_make_has_every_target_that_is_mentioned():
    targets = set(re.findall(r"`?make ([a-z0-9]+)", README))
    makefile = (ROOT / "Makefile").read_text()
    assert {"digits", "test", "toy2d", "bench", "lint"} <= targets
    for target in targets:
        assert re.search(rf"^[\w ]*\b{target}\b[\w ]*:", makefile, flags=re.MULTILINE), target


def test_every_picture_and_file_that_is_mentioned_exists():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert len(pictures) >= 4
    for picture in pictures:
        assert (ROOT / picture).stat().st_size > 1000, picture
    for path in re.findall(r"`(jaxscore/[\w/.]+)`", README):
        assert (ROOT / path).exists(), path


def test_no_figure_is_left_out():
    assert not re.search(r"@[A-Z_]+@", README)


def test_every_flag_in_the_texts_is_one_of_its_program():
    """Programs are named in code; `...` and variables stand for the rest."""
    texts = README + (ROOT / "docs" / "pods.md").read_text()
    joined = texts.replace("\\\n", " ")
    seen = 0
    for name, rest in re.findall(r"python -m experiments\.([\w.]+)([^\n`]*)", joined):
        module = importlib.import_module(f"experiments.{name}")
        known = {field.name for field in dataclasses.fields(module.Config)}
        if name == "plan":  # other flags are the experiment's
            known |= {field.name for field in dataclasses.fields(ncsn.Config)}
        for flag in re.findall(r" --([a-z][a-z.-]*)", rest.split("#")[0]):
            field = flag.split(".")[0].replace("-", "_").removeprefix("no_")
            assert field in known, f"experiments.{name} has no --{flag}"
            seen += 1
    assert seen > 40


def test_flags_in_the_table_of_the_pods_are_every_experiments():
    table = re.findall(r"^\| `(--.*?)` \|", (ROOT / "docs" / "pods.md").read_text(), flags=re.MULTILINE)
    assert len(table) > 6
    known = {field.name for field in dataclasses.fields(ncsn.Config)}
    for cell in table:
        for flag in re.findall(r"--([a-z][a-z.-]*)", cell):
            assert flag.split(".")[0].replace("-", "_") in known, flag
