"""Files that may be anything are read without an error, and in bounded time."""

import os

import pytest

from jaxscore.launch.untrusted import LONGEST_TEXT, STEPS, finite, lines, read_object, text, value

DEEP = [[]]
for _ in range(3000):
    DEEP = [DEEP]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), True, "1", None, [1], 10**400])
def test_what_is_no_finite_number_is_none(number):
    assert finite(number) is None


def test_numbers_have_five_digits():
    assert (finite(0.123456789), finite(123456789), finite(-0.0)) == (0.12346, 123456789, 0.0)


def test_values_are_short_texts():
    assert [value(each) for each in (1, 1.5, None, False, "a", [1, {"b": 2}])] == [
        1,
        1.5,
        None,
        False,
        "a",
        '[1, {"b": 2}]',
    ]
    assert text("x" * 5000) == "x" * LONGEST_TEXT + "…"
    assert len(value(DEEP)) <= LONGEST_TEXT + 1  # how deep JSON may be depends on the Python
    assert value(10**5000) == "(cannot be shown)"


def test_lines_know_the_steps_since_the_line_before(tmp_path):
    path, problems = tmp_path / "a.jsonl", []
    path.write_text('{"step": 2}\n{"step": 5}\nnonsense\n{"step": 9}\n{"step": 1')
    found = lines(path, 100, problems)
    assert [row[STEPS] for row in found.rows] == [2, 3, 9]
    assert (found.unread, found.count, found.every, problems) == (1, 5, 1, [])


def test_what_is_no_file_is_said(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for read in (
        lambda problems: lines(tmp_path / "pipe", 9, problems),
        lambda problems: read_object(tmp_path / "pipe", problems),
    ):
        problems = []
        read(problems)
        assert problems == [f"{tmp_path / 'pipe'} is no file"]
    problems = []
    assert lines(tmp_path / "absent", 9, problems) == ([], 0, 0, 1)
    assert read_object(tmp_path / "absent", problems) == {}
    assert problems == [f"{tmp_path / 'absent'} is missing"]
