"""What comes after training is tried after the first step: what fails there would waste a training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore import launch
from jaxscore.launch import Refusal, rehearsal
from tests.launch import tiny
from tests.launch.tiny import Config, newest


def broken(*given):
    raise ZeroDivisionError("of the experiment")


def planted(name, function=broken):
    """The small experiment with this function, and the steps whose batches it has been asked for."""
    hooks, steps = tiny.asked_for()
    return tiny.build(Config(), hooks)._replace(**{name: function}), steps


@pytest.mark.parametrize("name", ["evaluate", "table", "report"])
def test_a_function_that_fails_is_shown_before_the_second_step(tmp_path, name):
    experiment, steps = planted(name)
    with pytest.raises(ZeroDivisionError, match="of the experiment") as caught:
        launch.run(experiment, tmp_path / "run")
    assert any("--mode train trains without it" in note for note in caught.value.__notes__)
    assert max(steps) <= 1
    # The folder is not spoilt: the same command with a function that works trains in it.
    assert launch.run(tiny.build(Config()), tmp_path / "run")["n"] == 20


@pytest.mark.parametrize(
    ("name", "function", "named"),
    [
        ("evaluate", lambda params, samples: None, "evaluate returns NoneType"),
        ("table", lambda found: "text", "table returns str"),
        ("report", lambda *given: None, "report returns NoneType"),
        (
            "report",
            lambda params, samples, history, folder: [folder / "no.png"],
            "no.png, and there is no such",
        ),
        ("table", lambda found: [], "table must return rows of texts, all of the same length"),
        ("table", lambda found: [("a", "b"), ("c",)], "table must return rows of texts"),
        ("table", lambda found: [("a", 1)], "table must return rows of texts"),
        ("evaluate", lambda params, samples: {"sampling": 4}, "evaluate returns 'sampling', an entry of the"),
    ],
)
def test_a_function_that_returns_something_else_is_named(tmp_path, name, function, named):
    experiment, steps = planted(name, function)
    with pytest.raises(Refusal, match=rf"{named}.* \(a trial after the first step, .*--mode train trains"):
        launch.run(experiment, tmp_path / "run")
    assert max(steps) <= 1


def test_the_mode_train_tries_nothing(tmp_path):
    experiment, _ = planted("evaluate")
    launch.run(experiment, tmp_path / "run", mode="train")
    assert int(newest(tmp_path / "run", experiment).step) == Config().steps


def test_a_function_that_needs_all_samples_gets_them(tmp_path):
    seen = []

    def evaluate(params, samples):
        seen.append(len(samples["one"]))
        if seen[-1] < 20:
            raise ValueError("too few")
        return {"mean": [0.0, 0.0], "n": seen[-1]}

    experiment, _ = planted("evaluate", evaluate)
    assert launch.run(experiment, tmp_path / "run")["n"] == 20
    assert seen == [16, 20, 20]


def test_they_see_averages_and_the_line_of_the_first_step(tmp_path, capsys):
    """What they print is not shown, and what they draw is not kept."""
    seen = []

    def report(params, samples, history, folder):
        print("drawing")
        (folder / "picture.png").write_text("")
        seen.append((jax.device_get(params), history, folder))
        return [folder / "picture.png"]

    experiment, _ = planted("report", report)
    launch.run(experiment, tmp_path / "run")
    (first, history, place), (last, lines, _) = seen
    assert jax.tree.structure(first) == jax.tree.structure(last)
    assert [row["step"] for row in history] == [1]
    assert history[0].keys() == lines[0].keys()
    assert not place.exists()
    assert capsys.readouterr().out.count("drawing") == 1


def test_stand_ins_are_examples_where_they_fit():
    shapes = {"alike": (2, 2), "flat": (2,), "labels": (2, 3)}
    types = {"alike": jnp.float32, "flat": jnp.bfloat16, "labels": jnp.int32}
    drawn = {name: jax.ShapeDtypeStruct(shape, types[name]) for name, shape in shapes.items()}
    experiment = tiny.build(Config(batch=8))
    found = rehearsal.stand_ins(experiment, drawn, 20)
    assert {name: (x.shape, x.dtype) for name, x in found.items()} == {
        name: ((20, *shape[1:]), types[name]) for name, shape in shapes.items()
    }
    first = next(experiment.batches(batch=8, seed=0))["x"]
    np.testing.assert_array_equal(found["alike"][:8], first)


def test_numbers_that_name_entries_are_text_at_once(tmp_path):
    """A later run reads them from metrics.json, where they are."""
    table = lambda found: [("a", "b"), ("x", f"{found['by']['0']}")]
    experiment, _ = planted("evaluate", lambda params, samples: {"by": {0: 1.0}})
    for _ in range(2):
        assert launch.run(experiment._replace(table=table), tmp_path / "run")["by"] == {"0": 1.0}
