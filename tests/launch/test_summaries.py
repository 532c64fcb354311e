"""What a page shows of a run is read from any folder: whole, damaged, or of a run that still trains."""

import json
import os
import time

import numpy as np
import pytest

from jaxscore.launch import summaries, workdir
from jaxscore.launch.summaries import WAITING, age, pictures, summary
from jaxscore.launch.untrusted import LONGEST_LINE


def write(folder, rows, *, end="\n"):
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + end)


def curves(path, points):
    return summaries.curves(path, points, [])


def row(step, **more):
    return {"step": step, "loss": 1 / step} | more


def test_a_finished_run_is_summarised(finished):
    found = summary(finished.folder)
    assert found["problems"] == []
    assert (found["experiment"], found["steps"], found["evaluated"]) == ("tiny", 12, True)
    assert found["log"]["step"] == [4, 8, 12]
    logged = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    assert found["log"]["scalars"]["loss"] == pytest.approx([each["loss"] for each in logged], rel=1e-4)
    assert found["log"]["edges"] == [0.3, 1.0]
    by_level = list(zip(*found["log"]["by_sigma"], strict=True))
    assert by_level[2] == pytest.approx(tuple(logged[2]["loss_by_sigma"]), rel=1e-4)
    assert found["table"]["rows"][0] == ["samples", "mean"]
    assert found["config"]["optimizer.warm_up"] == 2
    assert [path.name for path in pictures(finished.folder)] == ["points.png"]


def test_a_folder_without_files_has_problems(tmp_path):
    found = summary(tmp_path)
    assert found["problems"] == [f"{tmp_path / 'config.json'} is missing"]
    assert age(tmp_path) is None
    (tmp_path / "config.json").write_text('{"experiment": "tiny", "steps": 12}')
    assert "metrics.jsonl has no line yet" in summary(tmp_path)["problems"][0]


@pytest.mark.parametrize(
    ("name", "content"),
    [("config.json", "{"), ("config.json", "[]"), ("config.json", "{}"), ("metrics.json", "[" * 100_000)],
    ids=["cut short", "no object", "empty", "deep"],
)
def test_a_damaged_file_is_a_problem(copy, name, content):
    (copy / name).write_text(content)
    (problem,) = summary(copy)["problems"]
    assert str(copy / name) in problem


@pytest.mark.parametrize(
    "content", ["[]", '{"rows": []}', '{"rows": [[1]], "notes": []}', '{"rows": [["a"]]}']
)
def test_a_table_that_is_none_is_a_problem(copy, content):
    (copy / "report" / "table.json").write_text(content)
    found = summary(copy)
    assert found["table"] is None
    assert "table.json holds no" in found["problems"][0]


def test_flags_that_changed_between_starts_are_named(tmp_path):
    start = lambda step, **changed: json.dumps({"step": step, "changed": changed})
    lines = [start(0, rate=[1, 2], width=[8, 9], save_every=[6, 5]), start(4, rate=[1, 3], width=[8, 9])]
    lines += [start(9, width=[8, 9]), "null", '{"changed": {"a": 3, "b": [1]}, "command": 7, "step": "x"}']
    (tmp_path / "launches.jsonl").write_text("\n".join(lines))
    found = summary(tmp_path)
    assert found["problems"][1:4] == [
        "launches.jsonl: lines that could not be read: 1",
        "rate is 3 from step 4 on; before it was 2",
        "rate is 1 from step 9 on; before it was 3",
    ]
    last = {"started": None, "command": "7", "devices": None, "step": None, "changed": {}}
    assert last.items() <= found["launches"][-1].items()


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "metrics.jsonl", "launches.jsonl"])
def test_what_is_no_file_is_a_problem_and_waits_for_nobody(copy, name):
    (copy / name).unlink()
    os.mkfifo(copy / name)
    assert f"{copy / name} is no file" in summary(copy)["problems"]


def test_results_of_an_earlier_training_are_named(copy):
    config = json.loads((copy / "config.json").read_text())
    older = "the table and the pictures are older than this training: evaluate the run again"
    with (copy / "launches.jsonl").open("a") as file:
        file.write('{"step": 12}\n')
    assert summary(copy)["problems"] == []
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "loss": 1.0}\n')
    found = summary(copy)
    assert (found["problems"], found["evaluated"]) == ([older], False)
    # A best checkpoint is older than the last step, and its results are of this training.
    metrics = json.loads((copy / "metrics.json").read_text())
    (copy / "launches.jsonl").write_text('{"step": 0}\n')
    workdir.write_json(copy / "metrics.json", metrics | {"stamp": workdir.stamp(config, 6)})
    assert summary(copy)["evaluated"]
    workdir.write_json(copy / "metrics.json", metrics | {"stamp": workdir.stamp(config | {"seed": 5}, 6)})
    assert not summary(copy)["evaluated"]
    workdir.write_json(copy / "metrics.json", metrics | {"stamp": workdir.stamp(config, 60)})
    assert not summary(copy)["evaluated"]


def test_time_waiting_is_of_the_steps_since_the_line_before(tmp_path):
    rows = [{"step": 100 * i, "steps_per_second": 10.0, "input_wait": 0.1} for i in range(1, 2001)]
    write(tmp_path, rows)
    for points in (5000, 1000, 70):
        waiting = curves(tmp_path / "metrics.jsonl", points)["scalars"][WAITING]
        assert waiting == [1.0] * len(waiting)


def test_many_metrics_have_fewer_points(tmp_path):
    write(tmp_path, [{"step": step} | {f"m{i}": 1.0 for i in range(200)} for step in range(1, 1001)])
    found = curves(tmp_path / "metrics.jsonl", 1000)
    assert 200 * len(found["step"]) < 1.2 * summaries.MOST_NUMBERS
    assert found["step"][-1] == 1000


def test_of_many_pictures_some_are_shown(tmp_path):
    (tmp_path / "report" / "training").mkdir(parents=True)
    for number in range(1, 1001):
        (tmp_path / "report" / "training" / f"{number:08}.png").touch()
    found = [int(path.stem) for path in pictures(tmp_path)]
    assert (len(found), found[-1]) == (100, 1000)
    assert set(np.diff(found)) == {10}


def test_half_a_line_is_left_out(tmp_path):
    write(tmp_path, [row(1), row(2)], end='\n{"step": 3, "lo')
    assert curves(tmp_path / "metrics.jsonl", 100)["step"] == [1, 2]


def test_lines_that_are_no_metrics_are_left_out(tmp_path):
    lines = [b"\xff\xfe broken", b"10%\r20%\r30%", b"[1, 2]", b'{"step": "no"}', b'{"step": 1, "loss": NaN}']
    lines += [
        b'{"step": 2, "loss": ' + b"1" * 2 * LONGEST_LINE + b"}",
        b'{"step": 3, "loss": 1e999, "ok": true}',
    ]
    lines += [b'{"step": 1' + b"0" * 400 + b"}", b"[" * 9000]
    lines += [b'{"step": 4, "loss": 0.123456789, "loss_by_sigma": [1.0], "sigma_edges": [0.1, "x"]}']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    found = curves(tmp_path / "metrics.jsonl", 100)
    assert found["step"] == [1, 3, 4]
    assert found["scalars"] == {"loss": [None, None, 0.12346]}
    assert (found["edges"], found["lines"]) == (None, 10)
    problems = []
    summaries.curves(tmp_path / "metrics.jsonl", 100, problems)
    assert problems == ["metrics.jsonl: lines that could not be read: 7"]


def test_bins_of_other_edges_are_not_mixed(tmp_path):
    levels = lambda *edges: {"loss_by_sigma": [1.0] * (len(edges) + 1), "sigma_edges": list(edges)}
    write(tmp_path, [row(1, **levels(0.1, 0.2)), row(2, **levels(0.3)), row(3)])
    found = curves(tmp_path / "metrics.jsonl", 100)
    assert (found["edges"], found["by_sigma"]) == ([0.3], [[None, 1.0, None], [None, 1.0, None]])


def test_of_many_lines_some_are_read_and_the_last(tmp_path):
    write(tmp_path, [row(step) for step in range(1, 10_001)])
    found = curves(tmp_path / "metrics.jsonl", 100)
    assert (found["lines"], found["every"]) == (10_000, 100)
    assert found["step"][:2] == [1, 101]
    assert found["step"][-2:] == [9_999, 10_000]
    assert len(found["step"]) <= 102


def test_a_log_that_grows_is_read_again(tmp_path):
    write(tmp_path, [row(1)])
    assert curves(tmp_path / "metrics.jsonl", 100)["step"] == [1]
    write(tmp_path, [row(1), row(2)])
    assert curves(tmp_path / "metrics.jsonl", 100)["step"] == [1, 2]


def test_the_age_is_never_negative(tmp_path):
    write(tmp_path, [row(1)])
    for offset, expected in ((-100, 100), (100, 0)):
        now = time.time()
        os.utime(tmp_path / "metrics.jsonl", (now + offset, now + offset))
        assert age(tmp_path) == pytest.approx(expected, abs=5)


def test_pictures_are_in_their_order(tmp_path):
    for name in ("report/b.png", "report/training/00000200.png", "report/training/00001000.png", "plan.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "report/folder.png").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in summaries.pictures(tmp_path)]
    assert found == [
        "report/b.png",
        "report/training/00000200.png",
        "report/training/00001000.png",
        "plan.png",
    ]
