"""The page of a run: everything is in one file of less than 5 MB, and no text can leave its place."""

import base64
import hashlib
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from jaxscore.launch import page
from jaxscore.launch.page import PICTURE_BYTES, alone, embeddable, embedded, text, write

EVIL = "</script><script>alert(1)</script><!--\u2028'\"{{data}}{{program}}"


def data_of(html):
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(found)


def noise(path, side):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(side)
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
    return path


def test_every_run_writes_its_page(finished):
    html = (finished.folder / "report" / "index.html").read_text()
    (run,) = data_of(html)["runs"]
    assert run["log"]["step"] == [4, 8, 12]
    (picture,) = run["pictures"]
    assert (picture["name"], picture["step"], picture["file"]) == ("points", None, "report/points.png")
    content = base64.b64decode(picture["src"].removeprefix("data:image/png;base64,"))
    assert content == (finished.folder / "report" / "points.png").read_bytes()
    assert "plotly.js (basic - minified) v4.1.1" in html
    assert len(html) < 2_000_000


def test_text_stays_in_its_place(tmp_path):
    name = EVIL.replace("/", "|")
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"experiment": EVIL, "note": EVIL}))
    html = alone([folder])
    plain = alone([tmp_path])
    assert html.count("<script") == plain.count("<script")
    assert html.count("</script") == plain.count("</script")
    (run,) = data_of(html)["runs"]
    assert (run["name"], run["experiment"], run["config"]) == (str(folder), EVIL, {"note": EVIL})


def test_the_policy_names_the_programs_of_the_page(finished):
    html = alone([finished.folder])
    programs = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        assert base64.b64encode(hashlib.sha256(program.encode()).digest()).decode() in html
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', html)
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "connect-src 'self'" in text({"live": True, "runs": [], "ages": []})


def test_numbers_are_json_as_browsers_have_it():
    assert (
        embeddable({"a": [float("nan"), float("inf"), 1.5], "b": "<"})
        == '{"a":[null,null,1.5],"b":"\\u003c"}'
    )


def test_large_pictures_are_reduced_until_the_page_is_small(finished, copy):
    for number, side in enumerate((40, 900, 900, 1400)):
        noise(copy / "report" / f"{number}.png", side)
    write(copy)
    html = (copy / "report" / "index.html").read_text()
    assert len(html) < 5_000_000
    reduced = [each["reduced"] for each in data_of(html)["runs"][0]["pictures"]]
    assert reduced == [False, True, True, True, False]


def test_pictures_share_what_there_is(tmp_path):
    paths = [noise(tmp_path / f"{side}.png", side) for side in (30, 700, 800, 900)]
    found = embedded(paths)
    sizes = [len(base64.b64decode(each["src"].partition(",")[2])) for each in found]
    assert sum(sizes) <= PICTURE_BYTES
    assert sizes[0] == paths[0].stat().st_size
    with Image.open(io.BytesIO(base64.b64decode(found[3]["src"].partition(",")[2]))) as image:
        assert 300 < image.width < 900


@pytest.mark.parametrize("content", [b"", b"root:x:0:0", None], ids=["empty", "text", "unreadable"])
def test_a_file_that_is_no_picture_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    path.mkdir() if content is None else path.write_bytes(content)
    (found,) = embedded([path])
    assert found["src"] == ""
    assert found["problem"] == f"cannot be shown ({'Is a directory' if content is None else 'is no PNG'})"


def test_a_damaged_picture_is_named_when_it_must_be_reduced(tmp_path, monkeypatch):
    noise(tmp_path / "a.png", 50)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    monkeypatch.setattr(page, "PICTURE_BYTES", 1000)
    assert embedded([tmp_path / "a.png"])[0]["problem"].startswith("cannot be shown (")


def test_a_picture_that_cannot_be_small_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PICTURE_BYTES", 50)
    assert "is left out" in embedded([noise(tmp_path / "a.png", 5)])[0]["problem"]
    profile = np.random.default_rng(0).bytes(5000)
    with Image.open(noise(tmp_path / "b.png", 300)) as image:
        image.save(tmp_path / "b.png", icc_profile=profile)
    monkeypatch.setattr(page, "PICTURE_BYTES", 3000)
    assert embedded([tmp_path / "b.png"])[0]["reduced"]


def test_a_notebook_shows_what_is_wrong_with_a_table(copy):
    (copy / "report" / "table.json").write_text('{"rows": [["a", "b"], ["c"]], "notes": []}')
    assert "table.json holds no table</pre>" in page.Results(copy, {"n": 1})._repr_html_()


def test_a_page_that_cannot_be_written_is_said(finished, tmp_path, capsys):
    (tmp_path / "report").touch()
    write(tmp_path)
    assert re.search(r"page: .*index\.html could not be written \(File exists\)\n$", capsys.readouterr().out)


def test_many_runs_have_fewer_points(tmp_path, finished):
    lines = "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(5000))
    (tmp_path / "config.json").write_text('{"experiment": "tiny"}')
    (tmp_path / "metrics.jsonl").write_text(lines)
    few, many = (page.summarised([tmp_path] * n)[0]["log"]["step"] for n in (1, 100))
    assert 900 <= len(few) <= 1002
    assert 190 <= len(many) <= 202


@pytest.mark.parametrize(
    "name", ["page.html", "page.css", "page.js", "plotly-basic.min.js", "plotly-LICENSE"]
)
def test_assets_are_there(name):
    assert page.asset(name)
