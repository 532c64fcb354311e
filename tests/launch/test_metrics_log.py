import json

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxscore.launch import metrics_log
from jaxscore.launch.metrics_log import Logbook, NonFinite
from jaxscore.trainer import TrainState


def metrics(loss, grad_norm=1.0, **more):
    return {"loss": jnp.float32(loss), "grad_norm": jnp.float32(grad_norm), **more}


def bins(total, count):
    edges = jnp.arange(1.0, len(total))
    return {"total": jnp.array(total, jnp.float32), "count": jnp.array(count, jnp.float32), "edges": edges}


@pytest.fixture
def book(tmp_path):
    return Logbook(tmp_path / "metrics.jsonl", 0)


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


# Intervals ------------------------------------------------------------------------------------


def test_a_row_is_the_average_of_its_interval(book):
    assert [book.append(metrics(loss, 10 * loss, extra=jnp.float32(2))) for loss in (1, 2, 6)] == [1, 2, 3]
    assert book.close_interval() == {"loss": 3.0, "grad_norm": 30.0, "extra": 2.0}
    book.append(metrics(5))
    assert book.close_interval()["loss"] == 5.0  # the interval before is over


def test_the_loss_of_a_bin_is_its_mean_over_the_interval(book):
    """The mean is over all examples of the bin."""
    book.append(metrics(1, by_sigma=bins([2.0, 9.0, 0.0], [1, 3, 0])))
    book.append(metrics(1, by_sigma=bins([4.0, 1.0, 0.0], [2, 1, 0])))
    row = book.close_interval()
    # Totals over counts: the mean of the two steps' means would be 2 and 2.
    by_sigma = {"loss_by_sigma": [2.0, 2.5, None], "sigma_edges": [1.0, 2.0]}
    assert row == {"loss": 1.0, "grad_norm": 1.0} | by_sigma
    book.write({"step": 2, **row})
    assert json.loads(book.path.read_text()) == {"step": 2, **row}
    assert [path.name for path in book.path.parent.iterdir()] == ["metrics.jsonl"]  # no events


# Not finite -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_what_is_not_finite_is_named_with_its_step(tmp_path, name, bad):
    """The line names the last finite loss, too."""
    book = Logbook(tmp_path / "metrics.jsonl", 10)
    spoilt = metrics(3.0) | {name: jnp.float32(bad)}
    for step in (metrics(0.125), metrics(0.0625), spoilt, metrics(np.nan, np.nan)):
        book.append(step)
    line = f"^{name} is {bad} at step 13; last finite loss: 0.0625 at step 12$"
    with pytest.raises(NonFinite, match=line):
        book.close_interval()
    assert book.rows == []


def test_the_last_finite_loss_may_be_of_an_earlier_interval(book):
    """If there was no finite loss, the line says so."""
    book.append(metrics(np.nan))
    with pytest.raises(NonFinite, match=r"at step 1; last finite loss: there was none$"):
        book.check()
    book = Logbook(book.path, 0)
    book.append(metrics(0.5))
    book.close_interval()
    book.append(metrics(np.nan))
    with pytest.raises(NonFinite, match=r"at step 2; last finite loss: 0\.5 at step 1$"):
        book.close_interval()


def test_a_check_does_not_end_the_interval(book):
    for loss in (1, 3):
        book.append(metrics(loss))
        book.check()
    assert book.close_interval()["loss"] == 2.0


@pytest.mark.parametrize("where", ["params", "ema", "opt"])
def test_a_state_that_is_not_finite_is_refused(where):
    params = {"w": jnp.ones(3), "count": jnp.arange(2)}
    tx = optax.adam(0.1)
    state = TrainState(jnp.int32(7), params, params, tx.init(jnp.ones(3)))
    metrics_log.require_finite(state)
    bad = jnp.array([1.0, jnp.nan, 1.0])
    spoilt = tx.init(jnp.ones(3))[0]._replace(nu=bad) if where == "opt" else {"w": bad}
    with pytest.raises(NonFinite, match="step 7"):
        metrics_log.require_finite(state._replace(**{where: spoilt}))


# TensorBoard ----------------------------------------------------------------------------------


def test_rows_are_tensorboard_events_too(tmp_path):
    pytest.importorskip("tensorboardX")
    book = Logbook(tmp_path / "metrics.jsonl", 0, events=tmp_path / "tensorboard")
    book.append(metrics(0.5, by_sigma=bins([2.0, 0.0], [1, 0])))
    book.write({"step": 1, **book.close_interval()})
    book.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    tags = (b"loss", b"grad_norm", b"loss_by_sigma/0", b"loss_by_sigma/1")
    # The second bin is empty: it has no number to show.
    assert [tag for tag in tags if tag in events.read_bytes()] == list(tags[:3])


# The file -------------------------------------------------------------------------------------


def test_opening_drops_the_rows_after_the_restored_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {step}, "loss": {step / 2}}}\n' for step in (10, 20, 30, 40)))
    book = Logbook(path, 20)
    assert steps(path) == [row["step"] for row in book.rows] == [10, 20]
    book.append(metrics(1))
    book.write({"step": 30, **book.close_interval()})
    assert steps(path) == [10, 20, 30]
    assert metrics_log.read(path) == book.rows


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert metrics_log.read(path) == []  # there need be no file
    path.write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "lo')
    assert metrics_log.read(path) == [{"step": 10, "loss": 1.0}]
    book = Logbook(path, 20)
    book.write({"step": 30})
    assert steps(path) == [10, 30]  # on a line of its own, not behind the stump
