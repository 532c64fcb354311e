import contextlib
import os
import pty
import threading
from unittest import mock

import pytest

from jaxscore.launch import console
from jaxscore.launch.console import TrainingDisplay

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
"""How the cursor is hidden while a bar moves, and shown again."""


def on_a_terminal(program) -> str:
    """What the program prints when its standard output is a pseudo-terminal."""
    ours, theirs = pty.openpty()
    parts = []

    def read():
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while part := os.read(ours, 4096):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    environment = mock.patch.dict(os.environ, TERM="xterm", COLUMNS="120")
    with os.fdopen(theirs, "w") as terminal, contextlib.redirect_stdout(terminal), environment:
        program()
    reader.join(timeout=10)
    os.close(ours)
    return b"".join(parts).decode()


# Training -----------------------------------------------------------------------------------------


def test_a_terminal_has_a_bar_and_no_plain_lines():
    def train():
        with TrainingDisplay(20, 80) as display:
            for step in range(21, 81):
                display.advance(step)
            display.update(80, 1 / 80)

    text = on_a_terminal(train)
    assert [part for part in ("━", "80/80", "0.0125", HIDE, SHOW) if part not in text] == []
    assert "s left" not in text


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


def test_say_and_complain_have_their_streams(capsys):
    console.say("done")
    console.complain("wrong")
    assert capsys.readouterr() == ("done\n", "error: wrong\n")


def test_a_table_has_aligned_columns():
    rows = [("sampler", "steps", "error"), ("Heun", "35", "0.5"), ("annealed Langevin", "201", "12.25")]
    assert console.table(rows).splitlines() == [
        "sampler            steps  error",
        "-------------------------------",
        "Heun                  35    0.5",
        "annealed Langevin    201  12.25",
    ]


# Things in turn -----------------------------------------------------------------------------------


def test_things_in_turn_move_a_bar_on_a_terminal():
    sums = []
    text = on_a_terminal(lambda: sums.append(sum(console.in_turn(range(5), "sample by langevin"))))
    assert [part for part in ("sample by langevin", "━", "100%") if part not in text] == []
    assert sums == [10]


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


def diverge_in_training():
    with TrainingDisplay(0, 10) as display:
        display.advance(1)
        raise RuntimeError("diverged")


def diverge_in_runs():
    for name in console.runs(["vae", "gan"], str.upper):
        if name == "gan":
            raise RuntimeError("diverged")


@pytest.mark.parametrize(
    ("diverge", "shown"), [(diverge_in_training, ["1/10"]), (diverge_in_runs, ["GAN", "1/2"])]
)
def test_a_bar_is_stopped_by_an_exception(diverge, shown):
    """The cursor is shown again."""

    def program():
        with pytest.raises(RuntimeError, match="diverged"):
            diverge()

    text = on_a_terminal(program)
    assert [part for part in (*shown, HIDE) if part not in text] == []
    assert text.rindex(SHOW) > text.rindex(HIDE)
