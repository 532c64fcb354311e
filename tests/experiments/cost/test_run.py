import json
import types

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest

from experiments.common import timing
from experiments.cost import run as cost
from experiments.cost import steps as cost_steps
from experiments.cost.steps import AT_ONCE, DENOISING, FINITE_DIFFERENCE, IMPLICIT, SLICED, Step
from jaxscore.launch import flags
from jaxscore.launch.flags import FlagError
from jaxscore.launch.workdir import Refusal

MEGABYTE = 1_000_000


# Real steps -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def steps():
    """Three of the steps at D = 48, the exact trace in chunks of 4 and all at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost_steps, "CHUNK", 4)
        patch.setattr(cost_steps, "DEPTH", 1)
        losses, some = cost_steps.losses, (DENOISING, IMPLICIT, AT_ONCE)
        patch.setattr(cost_steps, "losses", lambda *a: {name: losses(*a)[name] for name in some})
        return cost_steps.compiled(cost.Config(width=8, batch=16), 48)


def test_a_step_trains_and_the_chunks_do_not_matter(steps):
    values = {name: np.array([float(step.run()) for _ in range(8)]) for name, step in steps.items()}
    # On one batch the exact objectives fall at every step; denoising draws new noise each time.
    assert np.all(np.diff(values[IMPLICIT]) < 0)
    np.testing.assert_allclose(values[IMPLICIT], values[AT_ONCE], rtol=1e-4)  # sums in another order
    assert len(set(values[DENOISING])) == 8
    # The untrained score is -x / (1 + sigma^2), whose trace is -D / 1.25, and x has variance 1; a mean
    # of 16 x 48 squares is uncertain by 5 %, the sum by 3 %.
    np.testing.assert_allclose(values[IMPLICIT][0], 48 * (0.5 / 1.25**2 - 1 / 1.25), rtol=0.12)


def test_all_at_once_needs_more_memory(steps):
    assert all(step.compile_seconds > 0 for step in steps.values())
    assert steps[AT_ONCE].temporary_bytes > 1.5 * steps[IMPLICIT].temporary_bytes


def test_every_objective_is_the_librarys():
    config, score = cost.Config(probes=3), lambda x, sigma: -2 * x
    few, many = cost_steps.losses(config, 64), cost_steps.losses(config, 65)
    assert list(few) == [DENOISING, FINITE_DIFFERENCE, SLICED, IMPLICIT]
    assert list(many) == [*few, AT_ONCE]
    assert set(many) == set(cost.COLORS)
    assert (many[IMPLICIT].keywords, many[AT_ONCE].keywords) == ({"chunk": 64}, {"chunk": 65})
    for name in (FINITE_DIFFERENCE, SLICED):
        assert many[name].keywords == {"probes": 3}
        # 1/2 |s|^2 + trace = 8 - 8, for each probe of a linear field; a difference of 0.02 loses digits.
        value = jax.jit(many[name], static_argnums=0)(score, jax.random.key(0), jnp.ones((2, 4)), jnp.ones(2))
        np.testing.assert_allclose(value, 0, atol=2e-3)


# Timing ---------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the jobs move; returns a maker of jobs that take given seconds, and the calls."""
    now, calls = [0.0], []

    def job(name, *seconds):
        left = list(seconds)

        def run():
            calls.append(name)
            now[0] += left.pop(0) if len(left) > 1 else left[0]
            return jnp.zeros(())

        return run

    fake = types.SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(timing, "time", fake)
    return job, calls


def test_jobs_are_timed_in_turn_and_the_first_run_of_each_is_left_out(clock):
    job, calls = clock
    found = cost_steps.timings({"a": job("a", 0.9, 0.1), "b": job("b", 0.2)}, 3)
    assert calls == ["a", "b"] * 4
    np.testing.assert_allclose(found["a"], [0.1] * 3)
    np.testing.assert_allclose(found["b"], [0.2] * 3)


def test_a_slow_job_is_timed_less_often(clock):
    job, calls = clock
    jobs = {"fast": job("fast", 0.1), "slow": job("slow", 2.5), "slower": job("slower", 50.0)}
    found = cost_steps.timings(jobs, 5)
    # Until 6 seconds are spent; what takes seconds needs no warming up.
    np.testing.assert_allclose(found["slow"], [2.5] * 3)
    np.testing.assert_allclose(found["slower"], [50.0])
    assert len(found["fast"]) == 5
    assert calls[:9] == ["fast", "slow", "slower", "fast", "slow", "fast", "slow", "fast", "fast"]


def test_ratios_are_taken_round_by_round():
    row = cost.timed([2.0, 20.0, 6.0], [1.0, 10.0, 2.0])
    assert row == {"seconds": 6.0, "runs": 3, "ratio": 2.0, "ratio_quartiles": [2.0, 2.5]}
    row = cost.timed([8.0], [1.0, 10.0, 2.0])  # fewer rounds: against the median
    assert row == {"seconds": 8.0, "runs": 1, "ratio": 4.0, "ratio_quartiles": [4.0, 4.0]}


def test_exponents_are_those_of_large_dimensions():
    rows = [
        {"objective": IMPLICIT, "size": size, "seconds": 3 * size**1.5 if size >= 256 else 1e6}
        for size in (16, 255, 256, 512, 4096)
    ]
    rows.append({"objective": IMPLICIT, "size": 8192, "left_out": "too slow"})
    assert cost.exponent(rows, IMPLICIT, "seconds") == pytest.approx(1.5)
    assert cost.exponent(rows[:3], IMPLICIT, "seconds") is None
    assert cost.exponent(rows, SLICED, "seconds") is None


def test_the_product_has_a_speed():
    assert 0 < cost.product_gflops(32) < np.inf


# What is left out -------------------------------------------------------------------------------


def test_a_step_with_too_much_memory_or_too_slow_is_left_out():
    config, step = cost.Config(width=32), Step(None, 1.0, MEGABYTE)
    assert cost_steps.left_out(config, 1024, step, None) == ""
    much = step._replace(temporary_bytes=4_200_000_000)
    why = cost_steps.left_out(config, 1024, much, None)
    assert why == "needs 4.2 GB, more than --memory-limit-gb 4"
    # D weights in and D out of each of 32 units, and D biases: D times that is its growth.
    work = lambda size: size * (65 * size + rest)
    rest = cost_steps.work(config, 1) - 65
    assert cost_steps.work(config, 784) == work(784)
    seconds = 60 * work(256) / work(1024)
    assert cost_steps.left_out(config, 1024, step, (256, 0.99 * seconds)) == ""
    why = cost_steps.left_out(config, 1024, step, (256, 2 * seconds))
    assert why == "would take 120 s a step, more than --seconds-limit 60"


# The run --------------------------------------------------------------------------------------


def pretend(config, size):
    """Steps that do nothing, with memory that grows with D."""
    step = lambda memory: Step(lambda: jnp.zeros(()), 0.5, memory)
    return {
        name: step(MEGABYTE * (size if name == AT_ONCE else 1)) for name in cost_steps.losses(config, size)
    }


def pretended_seconds(jobs, repeats):
    """Half a second times the number of objectives, thrice."""
    return {name: [0.5 * (number + 1)] * 3 for number, name in enumerate(jobs)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a pretended run returned, its folder, and the lines it printed."""
    folder, said = tmp_path_factory.mktemp("cost") / "run", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost_steps, "compiled", pretend)
        patch.setattr(cost_steps, "timings", pretended_seconds)
        patch.setattr(cost, "product_gflops", lambda: 99.0)
        patch.setattr(cost.console, "say", said.append)
        config = cost.Config(workdir=folder, sizes=(1024, 512, 8192, 512), width=16, seconds_limit=10)
        found = cost.run(config)
    return found, folder, "\n".join(said).splitlines()


def test_a_run_has_a_row_for_each_size_and_objective(run):
    found, folder, _ = run
    assert {path.name for path in folder.iterdir()} == {"config.json", "cost.json", "cost.png"}
    assert json.loads((folder / "cost.json").read_text()) == found
    assert json.loads((folder / "config.json").read_text())["experiment"] == "cost"
    assert found["matrix product, GFLOP/s"] == 99.0
    labels = [(row["size"], row["objective"]) for row in found["rows"]]
    assert labels == [(size, name) for size in (512, 1024, 8192) for name in cost.COLORS]
    ratios = [row["ratio"] for row in found["rows"] if row["size"] == 512]
    assert ratios == [1, 2, 3, 4, 5]
    assert found["exponents"]["temporary_bytes"][AT_ONCE] == pytest.approx(1)
    assert found["exponents"]["temporary_bytes"][IMPLICIT] == pytest.approx(0)
    assert found["exponents"]["seconds"][SLICED] == pytest.approx(0)


def test_what_is_left_out_is_said_and_keeps_its_memory(run):
    found, _, lines = run
    left = {(row["size"], row["objective"]): row for row in found["rows"] if row["left_out"]}
    assert set(left) == {(8192, IMPLICIT), (8192, AT_ONCE)}
    assert all("seconds" not in row and row["temporary_bytes"] > 0 for row in left.values())
    (slow,) = [line for line in lines if line.startswith("D = 8192, implicit: would take ")]
    assert slow.endswith("s a step, more than --seconds-limit 10; left out")
    assert "D = 8192, implicit, all at once: needs 8.19 GB, more than --memory-limit-gb 4; left out" in lines
    assert "a matrix product here: 99 GFLOP/s" in lines
    (ratios,) = [line for line in lines if line.startswith("D = 512") and "5.00" in line]
    assert ratios.split() == ["D", "=", "512", "1.00", "2.00", "3.00", "4.00", "5.00"]


def test_there_is_a_picture(run):
    picture = matplotlib.image.imread(run[1] / "cost.png")[..., :3]
    assert picture.shape[1] > 1.8 * picture.shape[0]  # two panels
    assert np.mean(np.any(picture != 1, axis=-1)) > 0.02  # the frames alone are less than 1 %


def test_a_folder_of_another_run_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"experiment": "digits"}')
    with pytest.raises(Refusal, match="holds a run of digits"):
        cost.run(cost.Config(workdir=tmp_path))


# Flags ----------------------------------------------------------------------------------------


def test_sizes_are_numbers_in_any_order():
    assert flags.parse(cost.Config(), ["--sizes", "9", "3", "5"]).sizes == (9, 3, 5)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--sizes 0", "--sizes 0: must be at least 1"),
        ("--sizes 4 -2", "--sizes -2: must be at least 1"),
        ("--sizes", "--sizes: needs at least one number"),
        ("--width 0", "--width 0: must be at least 1"),
        ("--batch 0", "--batch 0: must be at least 1"),
        ("--repeats 0", "--repeats 0: must be at least 1"),
        ("--probes 0", "--probes 0: must be at least 1"),
        ("--memory-limit-gb 0", "--memory-limit-gb 0.0: must be positive"),
        ("--seconds-limit -1", "--seconds-limit -1.0: must be positive"),
        ("--seconds-limit inf", "--seconds-limit inf: must be a finite number"),
    ],
)
def test_flags_that_cannot_be_are_one_line(words, complaint):
    with pytest.raises(FlagError) as caught:
        flags.parse(cost.Config(), words.split())
    assert str(caught.value) == complaint


def test_bad_input_exits_with_status_2_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["cost", "--sizes", "0"])
    with pytest.raises(SystemExit) as stop:
        cost.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "--sizes 0: must be at least 1" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
