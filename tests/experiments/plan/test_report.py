"""The sweep's figure."""

import contextlib

from experiments.plan import report as plan_report


def row(chips, fsdp, images):
    memory = {"total": 4e9 / chips, "arguments": 1e9, "outputs": 1e9, "temporaries": 1e9, "donated": 1e9}
    return {
        "program": "training step",
        "topology": f"v5e:{chips}",
        "chips": chips,
        "data": chips // fsdp,
        "fsdp": fsdp,
        "images": images,
        "chip_memory": 16e9,
        "flops": {"float32": 1e12},
        "memory": memory,
        "wire_bytes": 1e6,
        "seconds": {"compute": 1.0, "memory": 2.0, "interconnect": None},
        "binds": "memory",
        "images_per_second": chips * images / 7,
        "utilisation": 0.5,
        "compile_seconds": 1.0,
    }


def test_a_sweeps_figure_has_a_line_for_each_batch_and_mesh(tmp_path, monkeypatch):
    seen = []
    page = plan_report.plots.page

    @contextlib.contextmanager
    def kept(*arguments, **options):
        with page(*arguments, **options) as axes:
            yield axes
            seen.extend(axes)

    monkeypatch.setattr(plan_report.plots, "page", kept)
    rows = [row(chips, fsdp, images) for chips in (4, 16) for fsdp in (1, chips) for images in (64, 256)]
    unfit = {key: value for key, value in row(4, 1, 1024).items() if key not in ("flops", "memory")}
    plan_report.picture([*rows, unfit], tmp_path / "sweep.png")
    speed, memory = seen
    labels = [text.get_text() for text in speed.get_legend().get_texts()]
    assert labels == [f"batch {n}, {how}" for n in (64, 256) for how in ("data parallel", "fully sharded")]
    drawn = [line.get_xydata().tolist() for line in speed.lines if len(line.get_xdata())]
    assert drawn[0] == [[4, 4 * 64 / 7], [16, 16 * 64 / 7]]
    assert memory.lines[-1].get_ydata()[0] == 16.0  # what a chip has
    assert plan_report.sweep_table(rows).splitlines()[2].split()[-5:-2] == ["1.0", "2,000.00", "memory"]
