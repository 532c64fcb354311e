"""Tables and pictures of `plan`: for all programs on each mesh, and for a sweep over slices."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from experiments.plan.programs import Row
from jaxscore import plan
from jaxscore.launch import console, plots

SHADES = (plots.BLUE, plots.ORANGE, "#3a8a4d", "#8a3a7d", plots.GREY)
"""Colours of the batch sizes."""


def table(rows: Sequence[Row]) -> str:
    """Table of everything that is known about the programs, with a column for each program."""
    heading = ("", *(f"{row['program']}, {mesh(row)}" for row in rows))
    lines = {
        "parameters": lambda row: f"{row['parameters']:,}",
        "images, over all chips": lambda row: f"{row['images']:,}",
        "GFLOP per chip, in products": lambda row: f"{_flops(row) / 1e9:,.1f}",
        "  of which at a peak of": _peaks,
        "GFLOP per image": lambda row: f"{_flops(row) * row['chips'] / row['images'] / 1e9:,.2f}",
        "elementwise operations, G": lambda row: f"{row['elementwise'] / 1e9:,.1f}",
        "GB moved per chip": lambda row: f"{row['bytes'] / 1e9:,.2f}",
        "memory per chip, GB": lambda row: gigabytes(row, "total"),
        "  of a chip's": _share,
        "  arguments": lambda row: gigabytes(row, "arguments"),
        "  outputs, not donated": lambda row: gigabytes(row, "kept"),
        "  temporaries": lambda row: gigabytes(row, "temporaries"),
        "  donated": lambda row: f"{gigabytes(row, 'donated')} in {row['donations']} arrays",
        "MB sent per chip": lambda row: f"{row['wire_bytes'] / 1e6:,.2f}",
        "least ms: computing": lambda row: _milliseconds(row, "compute"),
        "least ms: memory": lambda row: _milliseconds(row, "memory"),
        "least ms: exchanging": lambda row: _milliseconds(row, "interconnect"),
        "what binds": lambda row: row["binds"],
        "images/s, at most": lambda row: _number(row["images_per_second"]),
        "share of the peak, at most": lambda row: _percent(row["utilisation"]),
        "seconds to compile": lambda row: f"{row['compile_seconds']:.1f}",
    }
    always = {"parameters", "images, over all chips", "seconds to compile"}
    cell = lambda name, show, row: show(row) if "flops" in row or name in always else _absent(name, row)
    return console.table(
        [heading, *((name, *(cell(name, show, row) for row in rows)) for name, show in lines.items())]
    )


def exchanges(rows: Sequence[Row]) -> str:
    """Table of the collectives of every program: bytes gathered or reduced, summed over all their runs."""
    lines = [("exchanges", "kind", "arrays or tuples", "runs each", "among chips", "MB", "with computation")]
    for row in rows:
        for found in row.get("collectives", ()):
            counts = str(found["count"]), f"{found['times']:,}", str(found["group"])
            how = "overlapped" if found["overlapped"] else "synchronous"
            name, megabytes = f"{row['program']}, {mesh(row)}", f"{found['bytes'] / 1e6:,.3f}"
            lines.append((name, found["kind"], *counts, megabytes, how))
    return console.table(lines) if len(lines) > 1 else "exchanges: none"


def notes(chip: plan.Chip, rows: Sequence[Row], *, effort: float | None) -> list[str]:
    """Remarks on the tables: sources of the chip's properties, precision, and what is not known."""
    found = [f"{chip.name}: {chip.source}"]
    if any(kind == "float32" for row in rows for kind in row.get("flops", ())) and chip.float32:
        found.append(f"products of float32: {chip.float32_as}")
    if effort is not None:
        more = "; with more (--effort 0), fewer bytes move and more exchanges overlap" if effort < 0 else ""
        found.append(f"compiled with effort {effort:g}{more}")
    if any(row.get("unknown_loops") for row in rows):
        found.append("a loop of unknown length counts once")
    if chip.memory_bandwidth is None:
        found.append("no bandwidths are known of this device: only computing bounds the time")
    return found


def sweep_table(rows: Sequence[Row]) -> str:
    """Table of the training step, with a line for each slice, mesh and batch size."""
    costs = ("GB/chip", "of it", "sent MB", "ms", "binds", "images/s", "peak")
    lines = [("training step", "mesh", "batch", *costs)]
    for row in rows:
        start = (row["topology"], mesh(row), f"{row['images']:,}")
        if "flops" not in row:
            lines.append((*start, *_does_not_fit(row), "", "", "", "", ""))
            continue
        seconds = max(value or 0 for value in row["seconds"].values())
        memory = (gigabytes(row, "total"), _share(row))
        speed = (row["binds"], _number(row["images_per_second"]), _percent(row["utilisation"]))
        lines.append((*start, *memory, f"{row['wire_bytes'] / 1e6:,.1f}", f"{1e3 * seconds:,.2f}", *speed))
    return console.table(lines)


def picture(rows: Sequence[Row], path: Path) -> None:
    """Draws images per second and memory per chip over the number of chips.

    Each batch size has a line for data parallel and one for fully sharded meshes.
    """
    lines = sorted({(row["images"], row["fsdp"] > 1) for row in rows})
    shades = dict(zip(sorted({images for images, _ in lines}), itertools.cycle(SHADES), strict=False))
    with plots.page(path, columns=2, size=5.6, height=4.4) as (speed, memory):
        for images, sharded in lines:
            line = [r for r in rows if "flops" in r and (r["images"], r["fsdp"] > 1) == (images, sharded)]
            line.sort(key=lambda row: row["chips"])
            style = {"color": shades[images], "linestyle": "--" if sharded else "-", "markersize": 4}
            chips = [row["chips"] for row in line]
            label = f"batch {images:,}, {'fully sharded' if sharded else 'data parallel'}" if line else None
            speed.plot(chips, [row["images_per_second"] for row in line], "o", **style, label=label)
            memory.plot(chips, [_total(row) for row in line], "o", **style)
        for axes, label in ((speed, "images/s, at most"), (memory, "memory per chip, GB")):
            axes.set(xscale="log", yscale="log", xlabel="chips", ylabel=label)
            axes.set_xticks(sorted({row["chips"] for row in rows}))
            axes.xaxis.set_major_formatter("{x:.0f}")
            axes.minorticks_off()
        limits = {row["chip_memory"] for row in rows if row["chip_memory"]}
        for limit in limits:
            memory.axhline(limit / 1e9, color=plots.GREY, linewidth=0.8, linestyle=":")
        speed.legend(fontsize=8)
        speed.set_title("training steps, by the roofline", fontsize=10)
        memory.set_title("dotted: what a chip has" if limits else "", fontsize=10)


# Cells ----------------------------------------------------------------------------------------


def mesh(row: Row) -> str:
    """The mesh as text: data x fsdp."""
    return f"{row['data']} x {row['fsdp']}"


def gigabytes(row: Row, name: str) -> str:
    """A size in memory as text, in GB; empty if the compiler does not report it."""
    return _gb(row["memory"][name]) if row["memory"] else ""


def _total(row: Row) -> float:
    return row["memory"]["total"] / 1e9 if row["memory"] else float("nan")


def _flops(row: Row) -> float:
    return sum(row["flops"].values())


def _gb(size: float) -> str:
    return f"{size / 1e9:,.3f}"


def _share(row: Row) -> str:
    if not row["chip_memory"] or not row["memory"]:
        return ""
    return f"{100 * row['memory']['total'] / row['chip_memory']:.1f}%"


def _does_not_fit(row: Row) -> tuple[str, str]:
    return _gb(row["needs"]) if row.get("needs") else "", "does not fit"


def _absent(name: str, row: Row) -> str:
    return dict(zip(("memory per chip, GB", "  of a chip's"), _does_not_fit(row), strict=True)).get(name, "")


def _peaks(row: Row) -> str:
    show = lambda kind, peak: f"{peak / 1e12:,.4g} TFLOP/s ({kind})" if peak else f"unknown ({kind})"
    return ", ".join(show(*pair) for pair in row["peaks"].items())


def _milliseconds(row: Row, name: str) -> str:
    value = row["seconds"][name]
    return "unknown" if value is None else f"{1e3 * value:,.3f}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f}%"
