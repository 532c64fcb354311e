"""The page over many runs: which runs it shows, the file, and the server that only reads."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from jaxscore.launch import view
from jaxscore.launch.view import HOST, View, found, main, server
from jaxscore.launch.workdir import Refusal
from tests import compiler
from tests.launch.test_page import data_of


@pytest.fixture
def serving(finished, copy):
    """The address of a server of two runs."""
    with server([finished.folder, copy], 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving.server_port
        serving.shutdown()
        thread.join()


def ask(port, path, *, method="GET", host=None):
    connection = http.client.HTTPConnection(HOST, port)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"{HOST}:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def make(folder, *, steps=3):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"experiment": "tiny", "steps": steps}))
    return folder


# Which runs -----------------------------------------------------------------------------------


def test_runs_are_found_where_they_are_named_and_below(tmp_path, capsys):
    a, b = make(tmp_path / "runs" / "b" / "deep"), make(tmp_path / "runs" / "a")
    make(a / "checkpoints" / "6")
    inner = make(b / "inner")
    (tmp_path / "empty").mkdir()
    places = [tmp_path / "runs", b, tmp_path / "empty"]
    assert found(places) == [b, inner, a]
    assert capsys.readouterr().out == f"{tmp_path / 'empty'}: holds no run, and is left out\n"


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"absent: is not there; name folders of runs$"):
        found([tmp_path / "absent"])
    with pytest.raises(Refusal, match=r"no run was found: name folders that have a config\.json"):
        found([tmp_path])
    with pytest.raises(Refusal, match="no run was found"):
        found([])


# The file -------------------------------------------------------------------------------------


def test_a_file_has_all_runs(finished, copy, tmp_path, capsys):
    out = tmp_path / "both.html"
    main([str(finished.folder), str(copy), "--out", str(out)])
    assert capsys.readouterr().out == f"page: {out}\n"
    shown = data_of(out.read_text())
    assert [run["name"] for run in shown["runs"]] == [str(finished.folder), str(copy)]
    assert shown["live"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "absent/page.html"], "error: --out absent/page.html: cannot be written (No such file or"),
        (["--port", "99999"], "error: --port 99999: must be from 0 to 65535; leave it out for a free one"),
        (["--port", "x"], "error: --port x: must be an integer, or None"),
    ],
)
def test_bad_input_is_one_line(finished, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main([str(finished.folder), *arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith(message)
    assert said.count("\n") == 1


# The server -----------------------------------------------------------------------------------


def test_the_page_its_data_and_its_pictures_are_served(serving, finished):
    status, html = ask(serving, "/")
    assert status == 200
    shown = data_of(html.decode())
    assert shown["live"] is True
    status, again = ask(serving, "/data.json")
    assert status == 200
    assert json.loads(again)["runs"] == shown["runs"]
    (picture,) = shown["runs"][1]["pictures"]
    status, content = ask(serving, "/" + picture["src"])
    assert (status, content) == (200, (finished.folder / "report" / "points.png").read_bytes())


@pytest.mark.parametrize(
    "path",
    [
        "/config.json",
        "/picture/0/1",
        "/picture/2/0",
        "/picture/a/0",
        "/picture/0/../../etc/passwd",
        "/x/0/0",
    ],
)
def test_nothing_else_is_served(serving, path):
    assert ask(serving, path)[0] == 404


def test_it_only_reads_and_only_for_this_machine(serving, copy):
    assert ask(serving, "/", method="POST")[0] == 501
    assert ask(serving, "/", method="DELETE")[0] == 501
    assert ask(serving, "/", host="evil.example:80")[0] == 403
    assert ask(serving, "/", host="localhost:1234")[0] == 200
    assert ask(serving, "/", host="127.0.0.1")[0] == 200  # port 80


def test_a_run_that_still_trains_is_followed(serving, copy):
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 16, "loss": 0.5}\n{"step": 20, "lo')
    assert json.loads(ask(serving, "/data.json")[1])["runs"][1]["log"]["step"] == [4, 8, 12, 16]
    shutil.rmtree(copy)
    run = json.loads(ask(serving, "/data.json")[1])["runs"][1]
    assert run["problems"] == [f"{copy / 'config.json'} is missing"]
    assert ask(serving, "/picture/1/0")[0] == 404


@pytest.mark.parametrize("name", [b"not-\xff-text", "ümlaut ?#%&.png".encode()])
def test_any_name_is_served(finished, tmp_path, name):
    folder = shutil.copytree(finished.folder, tmp_path / os.fsdecode(name))
    (folder / "report" / "points.png").rename(folder / "report" / "ü ?#%2F.png")
    with server([folder], 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            shown = data_of(ask(serving.server_port, "/")[1].decode())
            (picture,) = shown["runs"][0]["pictures"]
            assert ask(serving.server_port, "/" + picture["src"])[0] == 200
        finally:
            serving.shutdown()
            thread.join()


def test_runs_that_begin_later_are_shown_after_the_others(tmp_path):
    make(tmp_path / "b")
    with server([tmp_path], 0) as serving:
        runs = serving.RequestHandlerClass.args[0]
        assert [run["name"] for run in runs.current()["runs"]] == [str(tmp_path / "b")]
        make(tmp_path / "a")
        assert [run["name"] for run in runs.current()["runs"]] == [str(tmp_path / "b"), str(tmp_path / "a")]


def test_a_taken_port_is_refused_or_replaced(finished, monkeypatch):
    with server([finished.folder], 0) as first:
        with pytest.raises(
            Refusal, match=rf"^--port {first.server_port}: Address already in use; leave it out"
        ):
            server([finished.folder], first.server_port)
        monkeypatch.setattr(view, "PORT", first.server_port)
        with server([finished.folder]) as second:
            assert second.server_port != first.server_port


def test_the_command_says_its_address_and_ends_by_ctrl_c(finished):
    command = [sys.executable, "-m", "jaxscore.launch.view", str(finished.folder), "--port", "0"]
    environment = os.environ | compiler.environment(devices=1)
    environment.pop("DISPLAY", None)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    line = process.stdout.readline()
    assert line.startswith("http://127.0.0.1:")
    assert line.endswith("/ shows the runs; Ctrl-C ends it\n")
    assert ask(int(line.split(":")[2].split("/")[0]), "/data.json")[0] == 200
    process.send_signal(2)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def test_flags_have_defaults():
    assert View(runs=()) == View(runs=(), out=None, port=None)
