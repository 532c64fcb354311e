import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxscore.launch import console
from jaxscore.launch.console import TrainingDisplay

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys, time
from jaxscore.launch.console import TrainingDisplay
with TrainingDisplay(20, 80) as display:
    for step in range(21, 81):
        display.advance(step)
        if step % 20 == 0:
            display.update(step, 1 / step)
print("is a terminal:", sys.stdout.isatty())
"""


def on_a_terminal(arguments, environment=None) -> tuple[int, str]:
    """Exit status and output of a process whose standard output is a pseudo-terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", **(environment or {})}
    process = subprocess.Popen(arguments, stdout=theirs, stderr=theirs, cwd=ROOT, env=environment)
    os.close(theirs)
    parts = []

    def read():
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
        except OSError:  # how Linux says that the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    status = process.wait(timeout=60)
    reader.join(timeout=10)
    os.close(ours)
    return status, b"".join(parts).decode()


def test_a_terminal_has_a_bar():
    status, text = on_a_terminal([sys.executable, "-c", SCRIPT])
    assert status == 0
    assert "is a terminal: True" in text
    assert "━" in text
    assert "80/80" in text
    assert "0.0125" in text  # the loss, 1 / 80
    assert "\x1b[" in text
    assert "s left" not in text  # no plain lines beside the bar


def test_a_pipe_has_plain_lines():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert lines[-1] == "is a terminal: False"
    assert [line.split()[1] for line in lines[:-1]] == ["40/80", "60/80", "80/80"]
    for line in lines[:-1]:
        assert re.fullmatch(r"step \d+/80  loss \d\.\d{4}  \d+\.\d steps/s  \d+ s left", line), line


def test_speed_and_time_left_are_those_since_the_last_update(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with TrainingDisplay(50, 200) as display:
        now[0] = 110.0
        assert display.update(100, 0.5) == 5.0
        now[0] = 112.0
        display.advance(120)
        assert display.update(120, 0.25) == 10.0
    assert capsys.readouterr().out.splitlines() == [
        "step 100/200  loss 0.5000  5.0 steps/s  20 s left",
        "step 120/200  loss 0.2500  10.0 steps/s  8 s left",
    ]


def test_the_time_left_does_not_count_the_compilation(monkeypatch, capsys):
    """The first step takes 90 s, the other 49 take 10 s."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with TrainingDisplay(0, 148) as display:
        now[0] = 90.0
        display.advance(1)
        now[0] = 100.0
        display.advance(50)
        assert display.update(50, 1.0) == 0.5
    assert capsys.readouterr().out == "step 50/148  loss 1.0000  0.5 steps/s  20 s left\n"


def test_an_interval_without_time_does_not_divide_by_zero(monkeypatch, capsys):
    monkeypatch.setattr(console.time, "monotonic", lambda: 1.0)
    TrainingDisplay(0, 10).update(5, 1.0)
    assert capsys.readouterr().out.startswith("step 5/10 ")


def test_the_bar_is_stopped_by_an_exception(monkeypatch):
    monkeypatch.setattr(console.Console, "is_terminal", True)
    display = TrainingDisplay(0, 10)

    def train():
        with display:
            assert display.bar.live.is_started
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        train()
    assert not display.bar.live.is_started


def test_say_and_complain_have_their_streams(capsys):
    console.say("done")
    console.complain("wrong")
    output = capsys.readouterr()
    assert output.out == "done\n"
    assert output.err == "error: wrong\n"


def test_a_table_has_aligned_columns():
    rows = [("sampler", "steps", "error"), ("Heun", "35", "0.5"), ("annealed Langevin", "201", "12.25")]
    assert console.table(rows) == "\n".join(
        [
            "sampler            steps  error",
            "-------------------------------",
            "Heun                  35    0.5",
            "annealed Langevin    201  12.25",
        ]
    )


# Things in turn -----------------------------------------------------------------------------------

IN_TURN = """
from jaxscore.launch.console import in_turn
print("sum:", sum(in_turn(range(5), "sample by langevin")))
"""


def test_things_in_turn_move_a_bar_on_a_terminal():
    status, text = on_a_terminal([sys.executable, "-c", IN_TURN])
    assert status == 0
    assert "sample by langevin" in text
    assert "━" in text
    assert "100%" in text
    assert "sum: 10" in text


def test_things_in_turn_are_told_of_in_lines_now_and_then(capsys):
    assert list(console.in_turn(range(3), "sample", every=0.0)) == [0, 1, 2]
    assert capsys.readouterr().out.splitlines() == ["sample 1/3", "sample 2/3"]
    assert list(console.in_turn(range(3), "sample")) == [0, 1, 2]
    assert capsys.readouterr().out == ""


# Runs ---------------------------------------------------------------------------------------------


def test_without_a_terminal_every_run_has_a_line(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    for seconds in console.runs([10.0, 30.0], lambda seconds: f"run of {seconds:.0f}"):
        now[0] += seconds
    assert capsys.readouterr().out.splitlines() == [
        "1/2  run of 10: 10 s  10 s left",
        "2/2  run of 30: 30 s  0 s left",
    ]


RUNS = """
from jaxscore.launch.console import runs
for name in runs(["vae", "gan"], str.upper):
    if name == "gan":
        raise SystemExit("diverged")
"""


def test_the_bar_over_runs_is_stopped_by_an_exception():
    status, text = on_a_terminal([sys.executable, "-c", RUNS])
    assert status == 1
    assert "GAN" in text
    assert "1/2" in text
    assert text.endswith("diverged\r\n")
    assert "\x1b[?25h" in text  # the cursor is shown again
