"""Programs that are given bad input."""

import runpy

import pytest

from tests.launch.tiny import snapshot


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """refused(module, words): the program's one line of error, after which its folder is as before."""

    def line(module: str, words: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [module, *words.split()])
        name = module.removesuffix(".run").removesuffix(".experiment")
        before = snapshot(tmp_path)
        with pytest.raises(SystemExit) as stop:
            runpy.run_module(f"experiments.{name}", run_name="__main__")
        assert stop.value.code == 2
        assert snapshot(tmp_path) == before
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        return error.removeprefix("error: ")

    return line
