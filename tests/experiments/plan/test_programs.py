"""Rows of programs, compiled for devices here."""

import jax
import pytest

from experiments.plan import programs as plan_programs
from experiments.plan import report as plan_report
from tests.launch import tiny


def test_the_local_devices_are_planned_for_with_a_measured_peak(capsys):
    where = plan_programs.target("cpu", effort=-1.0, side=128)
    row = plan_programs.step_row(tiny.build(tiny.Config()), where)
    assert (row["chips"], row["binds"], row["seconds"]["memory"]) == (8, "compute", None)
    assert row["seconds"]["compute"] > 0
    assert "unknown" in plan_report.table([row])
    assert any("measured" in note for note in plan_report.notes(where.chip, [row], effort=None))


def refused(message):
    """The row of a step whose compiler ends with the message."""

    def refuse(lowered):
        raise jax.errors.JaxRuntimeError(message)

    where = plan_programs.Target("cpu", jax.devices(), plan_programs.plan.unknown("x"), refuse, True)
    return plan_programs.step_row(tiny.build(tiny.Config()), where)


def test_what_does_not_fit_is_a_row_that_says_so():
    row = refused("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm.")
    assert row["needs"] == 20.5 * 2**30
    for table in (plan_report.table, plan_report.sweep_table):
        assert "does not fit" in table([row])


def test_another_error_of_the_compiler_is_not_hidden():
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        refused("INTERNAL: a bug")
