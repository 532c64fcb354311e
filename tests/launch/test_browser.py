"""The page in a real browser: no error, no request, and everything by mouse and by keyboard."""

import json
import re
import threading

import numpy as np
import pytest
from PIL import Image

from jaxscore.launch import page, view
from tests.launch.test_page import EVIL

WIDTHS = pytest.mark.parametrize("width", [1280, 400])


def make(folder, number, *, lines=40, end="\n"):
    """A run without checkpoints: a configuration, metrics, a table and pictures."""
    (folder / "report" / "training").mkdir(parents=True)
    rng = np.random.default_rng(number)
    (folder / "config.json").write_text(
        json.dumps({"experiment": "tiny", "steps": 400, "seed": number, "optimizer": {"b2": 0.99}})
    )
    row = lambda step: {
        "step": step,
        "loss": number + 1 + 10 / step,
        "grad_norm": 2.0,
        "constructor": 0.5 - number,
        "steps_per_second": 50.0,
        "input_wait": 0.02,
        "loss_by_sigma": [1 / step, None, 3.0],
        "sigma_edges": [0.3, 1.0],
    }
    rows = "\n".join(json.dumps(row(step)) for step in range(10, 10 * lines + 1, 10))
    (folder / "metrics.jsonl").write_text(rows + end)
    launch = {
        "started": "2026-01-02T03:04:05+05:30",
        "command": "python -m flowers",
        "step": 0,
        "processes": 1,
    }
    launch |= {"devices": "8 x cpu", "jaxscore": "0", "jax": "0", "python": "3"}
    launch |= {"changed": {"seed": [7, number]}}
    (folder / "launches.jsonl").write_text(json.dumps(launch) + "\n")
    table = {"rows": [["", "quality"], ["heun", f"{10 - number}.5 ± 0.2"], ["lms", ""]], "notes": ["a note"]}
    (folder / "report" / "table.json").write_text(json.dumps(table))
    for name in ("samples", "training/00000100", "training/00000200"):
        pixels = rng.integers(0, 256, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "report" / f"{name}.png")
    return folder


@pytest.fixture
def shown(visit, tmp_path):
    """shown(folders) -> the page of the file that has these runs."""

    def show(folders, **options):
        (tmp_path / "page.html").write_text(page.alone(folders))
        return visit((tmp_path / "page.html").as_uri(), **options)

    return show


@pytest.fixture
def two(tmp_path):
    return [make(tmp_path / "runs" / name, number) for number, name in enumerate("ab")]


def column(page, table, number):
    return page.locator(f"#{table} tbody tr > :nth-child({number})").all_inner_texts()


def charts(page):
    return page.locator(".chart h3").all_inner_texts()


def chart(page, title):
    return page.locator(".chart", has=page.get_by_role("heading", name=title, exact=True))


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# One run --------------------------------------------------------------------------------------


@WIDTHS
def test_a_page_of_one_run_shows_all_there_is(shown, two, width):
    page = shown(two[:1], width=width)
    assert page.locator("h1").inner_text() == str(two[0])
    assert page.locator("#status").inner_text() == "tiny · step 400 of 400; trained, not evaluated"
    text = page.locator("#about").inner_text()
    assert "python -m flowers" in text
    assert "8 x cpu · 1 process" in text
    assert "started 2026-01-02T03:04:05+05:30 from step 0" in text
    assert column(page, "changed", 1) + column(page, "changed", 2) == ["seed", "7"]
    assert charts(page)[:3] == ["loss", "loss by noise level", "gradient norm"]
    assert {"steps per second", "time waiting for data, %", "constructor"} <= set(charts(page))
    assert page.locator(".js-plotly-plot .scatterlayer .trace").count() >= 7
    assert page.locator("figure img").count() == 2
    assert page.evaluate("[...document.images].filter((i) => i.src).every((i) => i.naturalWidth === 30)")
    assert page.locator(".problem").count() == 0
    assert fits(page)


def test_hovering_shows_values(shown, two):
    page = shown(two[:1])
    box = chart(page, "loss by noise level")
    area = box.locator(".nsewdrag").bounding_box()
    page.mouse.move(area["x"] + area["width"] - 2, area["y"] + area["height"] / 2)
    page.wait_for_function("document.querySelector('.chart:nth-child(2) output').textContent")
    assert box.locator("output").inner_text() == "step 400: 0 < σ ≤ 0.3: 0.0025; σ > 1: 3"
    assert box.locator(".hoverlayer text").count() > 0


def test_the_keyboard_reaches_everything(shown, two):
    page = shown(two[:1])
    page.evaluate("document.addEventListener('focusin', (event) => (event.target.reached = true))")
    everything = "[...document.querySelectorAll('main button, select, input, summary, .plot, .scroll')]"
    needed = f"{everything}.filter((one) => one.checkVisibility() && !one.disabled)"
    for _ in range(page.evaluate(f"{needed}.length") + 5):
        page.keyboard.press("Tab")
    assert page.evaluate(f"{needed}.filter((one) => !one.reached).map((one) => one.outerHTML)") == []
    box = chart(page, "loss")
    box.locator(".plot").focus()
    page.keyboard.press("End")
    assert box.locator("output").inner_text() == "step 400: 1.025"
    page.keyboard.press("ArrowLeft")
    assert box.locator("output").inner_text() == "step 390: 1.026"
    assert box.locator(".hoverlayer text").count() > 0
    ranged = "document.querySelector('.chart .plot').layout.xaxis.range"
    whole = page.evaluate(ranged)
    page.keyboard.press("+")
    page.wait_for_function(f"{ranged}[0] > {whole[0]}")
    page.keyboard.press("0")
    page.wait_for_function(f"Math.abs({ranged}[0] - {whole[0]}) < 1")
    box.get_by_label("log").focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('.chart .plot').layout.yaxis.type === 'log'")


def test_pictures_enlarge_and_training_is_a_slider(shown, two):
    page = shown(two[:1])
    slider = page.get_by_label("step of training")
    assert page.locator("p.training output").inner_text().strip() == "step 200"
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("p.training output").inner_text().strip() == "step 100"
    page.get_by_label("samples: enlarge").focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible()
    assert page.evaluate("document.querySelector('dialog img').naturalWidth") == 30
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()


def test_what_is_missing_is_said(shown, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    page = shown([folder])
    said = page.locator(".problem").all_inner_texts()
    assert f"{folder / 'config.json'} is missing" in said
    assert "launches.jsonl is missing: how this run was started is not known" in said
    assert "There is no curve: no line of metrics.jsonl could be read." in said


# Many runs ------------------------------------------------------------------------------------


@WIDTHS
def test_two_runs_are_compared(shown, two, width):
    page = shown(two, width=width)
    names = [str(folder) for folder in two]
    assert page.locator("#status").inner_text() == "2 runs, 2 shown"
    assert [text.strip() for text in column(page, "runs-table", 1)] == names
    assert page.locator("#differences-table thead").inner_text().split() == ["run", "seed"]
    assert column(page, "differences-table", 2) == ["0", "1"]
    assert column(page, "results-0", 3) == ["10.5 ± 0.2", "", "9.5 ± 0.2", ""]
    traces = "document.querySelectorAll('.chart .plot')[0].data.map((trace) => trace.y.at(-1))"
    assert page.evaluate(traces) == [1.025, 2.025]
    page.get_by_role("checkbox", name=names[0]).uncheck()
    assert page.evaluate(traces) == [2.025]
    assert column(page, "results-0", 3) == ["9.5 ± 0.2", ""]
    assert page.locator("figure").count() == 2  # the last picture of training, and the samples
    page.get_by_role("button", name="show none").click()
    assert page.locator("#charts").inner_text() == "Training\n\nAll runs are hidden."
    page.get_by_role("button", name="show all").click()
    assert page.locator("figure").count() == 4
    assert fits(page)


def test_tables_sort_by_number_and_keep_the_focus(shown, two):
    page = shown(two)
    heading = page.locator("#results-0 th").nth(2)
    heading.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert column(page, "results-0", 3) == ["9.5 ± 0.2", "10.5 ± 0.2", "", ""]
    assert page.locator("#results-0 th").nth(2).get_attribute("aria-sort") == "ascending"
    assert page.evaluate("document.activeElement.innerText") == "quality"
    page.keyboard.press("Enter")
    assert column(page, "results-0", 3) == ["10.5 ± 0.2", "9.5 ± 0.2", "", ""]
    page.keyboard.press("Enter")
    assert column(page, "results-0", 3) == ["10.5 ± 0.2", "", "9.5 ± 0.2", ""]


def test_of_each_run_the_last_picture_up_to_the_step_is_shown(shown, two):
    (two[0] / "report" / "training" / "00000200.png").rename(two[0] / "report" / "training" / "00000150.png")
    page = shown(two)
    captions = lambda: page.locator("#pictures .grid").first.locator("figcaption").all_inner_texts()
    assert captions() == [f"{two[0]}, step 150", f"{two[1]}, step 200"]
    page.get_by_label("step of training").focus()
    page.keyboard.press("ArrowLeft")
    assert captions() == [f"{two[0]}, step 150", f"{two[1]}, step 100"]


def test_the_noise_level_is_chosen(shown, two):
    page = shown(two)
    last = "document.querySelectorAll('.chart .plot')[1].data.map((trace) => trace.y.at(-1))"
    assert page.evaluate(last) == [0.0025, 0.0025]
    page.get_by_label("noise level", exact=True).select_option("σ > 1")
    assert page.evaluate(last) == [3, 3]


def test_a_hundred_runs(shown, tmp_path):
    page = shown([make(tmp_path / f"{number:03}", number % 7) for number in range(100)])
    assert page.locator("#runs-table tbody tr").count() == 100
    assert page.evaluate("document.querySelector('.chart .plot').data.length") == 100
    chart(page, "loss").locator(".plot").focus()
    page.keyboard.press("Home")
    assert re.search(r"^step 10: .*; and 88 more$", chart(page, "loss").locator("output").inner_text())
    assert fits(page)


def test_names_do_no_harm(shown, visit, tmp_path):
    name = EVIL.replace("/", "|")
    folder = make(tmp_path / name / "<img src=x onerror=alert(1)>", 1, end='\n{"step": 410, "lo')
    (folder / "report" / "<b>bold<|b>.png").write_bytes((folder / "report" / "samples.png").read_bytes())
    rows = [{"step": step, "<script>alert(1)</script>": 1.0, "__proto__": 2.0} for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    other = make(tmp_path / "run", 2)
    for folders in ([folder], [folder, other]):
        page = shown(folders)
        page.on("dialog", lambda dialog: pytest.fail("a script of the run has run"))
        assert str(folder) in page.locator("body").inner_text().replace("\n", "")
        assert "<script>alert(1)</script>" in charts(page)
        assert page.locator("script").count() == 3
        assert page.locator("b, img[src=x]").count() == 0
        box = chart(page, "<script>alert(1)</script>")
        box.locator(".plot").focus()
        page.keyboard.press("Home")
        assert box.locator("output").inner_text().startswith("step 1: ")


# Live -----------------------------------------------------------------------------------------


def test_a_run_in_progress_is_followed(visit, tmp_path):
    folder = make(tmp_path / "run", 0, lines=3, end='\n{"step": 40, "lo')
    with view.server([folder], 0) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            page = visit(f"http://{view.HOST}:{server.server_port}/")
            status = lambda text: page.wait_for_function(
                "(text) => document.getElementById('status').textContent.includes(text)", arg=text
            )
            status("step 30 of 400; not finished · last line 0 s ago")
            page.get_by_role("button", name="quality").focus()
            with (folder / "metrics.jsonl").open("a") as file:
                file.write('ss": 3.0}\n{"step": 50, "loss": 0.25}\n')
            status("step 50 of 400")
            assert page.evaluate("document.activeElement.innerText") == "quality"
            assert page.evaluate("document.querySelector('.chart .plot').data[0].y.at(-1)") == 0.25
        finally:
            server.shutdown()
