"""Programs that are given bad input."""

import importlib
from collections.abc import Set

import pytest

from jaxscore import launch
from tests.launch.tiny import snapshot


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """refused(module, words): the program's one line of error; in its folder only what is `made` is new."""

    def line(module: str, words: str, made: Set[str] = frozenset()) -> str:
        program = importlib.import_module(f"experiments.{module}")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [module, *words.split()])
        main = getattr(program, "main", launch.main)
        given = (program.build, program.Config()) if main is launch.main else ()
        before = snapshot(tmp_path)
        with pytest.raises(SystemExit) as stop:
            main(*given)
        assert stop.value.code == 2
        after = snapshot(tmp_path)
        assert after.keys() - before.keys() == made
        assert {name: after.get(name) for name in before} == before
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        return error.removeprefix("error: ")

    return line
