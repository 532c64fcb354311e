"""The tutorials open as notebooks, and a run in a notebook shows a bar, its table and its pictures."""

import os
from pathlib import Path

import pytest

from tests import compiler

jupytext = pytest.importorskip("jupytext")
nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")

ROOT = Path(__file__).parent.parent
TUTORIALS = [
    path for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")) if "{code-cell}" in path.read_text()
]

RUN = """
from jaxscore import launch
from tests.launch import tiny
results = launch.run(tiny.build(tiny.Config()), "run")
results
"""


def test_there_are_tutorials():
    assert len(TUTORIALS) > 4


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_open_as_notebooks(path):
    """They open without a format by name, as in JupyterLab."""
    notebook = jupytext.read(path)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) == path.read_text().count("```{code-cell}")
    assert any("jaxscore" in cell for cell in cells)
    assert not any("```" in cell for cell in cells)


@pytest.mark.slow
def test_a_run_in_a_notebook_shows_a_bar_and_its_results(tmp_path, monkeypatch):
    for name, value in compiler.environment(devices=8).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(RUN)])
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    outputs = notebook.cells[0].outputs
    shown = [output.data for output in outputs if output.output_type == "display_data"]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown)
    assert "step 4/12" not in str(outputs)  # the bar stands for the lines
    (result,) = [output.data for output in outputs if output.output_type == "execute_result"]
    assert "samples" in result["text/html"].split("</pre>")[0]
    assert '<img alt="points" src="data:image/png;base64,' in result["text/html"]
    assert "'n': 20" in result["text/plain"]
    assert (tmp_path / "run" / "report" / "points.png").exists()
