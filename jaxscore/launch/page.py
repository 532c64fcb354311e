"""The page of a run, report/index.html: one file without a network, to look at in a browser.

The page is `assets/page.html` with its style, its programs and the data put into it. The plots are drawn by
plotly.js (basic, 4.1.1, MIT licence), from the npm package plotly.js-basic-dist-min.
"""

import base64
import functools
import hashlib
import html
import io
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from jaxscore.launch import console, summaries, workdir
from jaxscore.launch.evaluate import plain

NAME = "index.html"
"""The page's name in the folder `report`."""
PICTURE_BYTES = 2_500_000
"""Bytes of a page's pictures, at most; base64 makes a third more of them."""


def write(folder: Path) -> None:
    """Writes the page of the run in the folder, and says where it is, or why it could not be written."""
    path = folder / "report" / NAME
    try:
        path.parent.mkdir(exist_ok=True)
        workdir.write_text(path, alone([folder]))
    except OSError as error:  # this must not hide the error that the run may have ended with
        console.say(f"page: {path} could not be written ({error.strerror})")
    else:
        console.say(f"page: {path}")


class Results(dict):
    """The metrics of a run, as in its metrics.json; a notebook shows the table and the pictures."""

    def __init__(self, folder: Path, metrics: dict[str, Any]):
        super().__init__(metrics)
        self.folder = folder

    @property
    def pictures(self) -> list[Path]:
        """The pictures of the run, those of training included."""
        return summaries.pictures(self.folder)

    def _repr_html_(self) -> str:
        """Returns what Jupyter shows: the table, and the pictures of the report."""
        problems: list[str] = []
        found = summaries.table(self.folder, problems)
        lines = [console.table([tuple(row) for row in found["rows"]]), *found["notes"]] if found else problems
        report = [path for path in self.pictures if path.parent.name != summaries.TRAINING]
        images = (
            f'<img alt="{html.escape(path.stem)}" src="{image["src"]}">'
            for path, image in zip(report, embedded(report), strict=True)
        )
        return "\n".join([f"<pre>{html.escape(chr(10).join(lines))}</pre>", *images])


def alone(folders: Sequence[Path]) -> str:
    """Returns a page of these runs that needs no server: their pictures are in it."""
    runs = summarised(folders)
    shown = [summaries.pictures(folder) for folder in folders]
    images = iter(embedded([path for paths in shown for path in paths]))
    for run, folder, paths in zip(runs, folders, shown, strict=True):
        run["pictures"] = [named(folder, path) | next(images) for path in paths]
    return text({"live": False, "runs": runs, "ages": [None] * len(runs)})


def summarised(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns the summaries of the runs: the more runs, the fewer points has each curve."""
    points = max(100, min(summaries.MOST_POINTS, 20_000 // max(len(folders), 1)))
    return [summaries.summary(folder, points=points) for folder in folders]


def named(folder: Path, path: Path) -> dict[str, Any]:
    """Returns the name of a picture in the run's folder, and the step of one that was made in training."""
    step = int(path.stem) if path.parent.name == summaries.TRAINING and path.stem.isdecimal() else None
    return {"name": path.stem, "step": step, "file": str(path.relative_to(folder))}


def embedded(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Returns {"src": data URL, "reduced": bool} for each picture, together PICTURE_BYTES at most.

    If the files are larger, the larger ones are reduced. A file that cannot be shown has the entry
    "problem".
    """
    contents = [_content(path) for path in paths]
    limit = _limit([len(each) for each in contents if isinstance(each, bytes)], PICTURE_BYTES)
    return [each if isinstance(each, dict) else _embedded(each, limit) for each in contents]


def png(path: Path) -> bytes:
    """Returns the picture in the file. Raises ValueError if it is no PNG: a name alone proves nothing."""
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError("is no PNG")
    return content


def _content(path: Path) -> bytes | dict[str, Any]:
    try:
        return png(path)
    except (OSError, ValueError) as error:
        return _problem(f"cannot be shown ({getattr(error, 'strerror', None) or error})")


def _problem(text: str) -> dict[str, Any]:
    return {"src": "", "reduced": False, "problem": text}


def _limit(sizes: Sequence[int], total: int) -> float:
    """Returns the size to which larger pictures are reduced, so that the sum is `total` at most."""
    left = total
    for place, size in enumerate(sorted(sizes)):
        share = left / (len(sizes) - place)
        if size > share:
            return share
        left -= size
    return float("inf")


def _embedded(content: bytes, limit: float) -> dict[str, Any]:
    reduced = len(content) > limit
    try:
        for _ in range(8):
            if len(content) > limit:
                content = _reduced(content, 0.9 * (limit / len(content)) ** 0.5)
    except Exception as error:  # a damaged file can raise nearly anything in Pillow
        return _problem(f"cannot be shown ({error})")
    if len(content) > limit:
        return _problem("is left out, because the page would be too large")
    return {"src": f"data:image/png;base64,{base64.b64encode(content).decode()}", "reduced": reduced}


def _reduced(content: bytes, scale: float) -> bytes:
    """Returns the picture with its sides times `scale`, and nothing else that the file had."""
    with Image.open(io.BytesIO(content)) as image:
        small = image.convert("RGB").resize([max(1, int(scale * side)) for side in image.size])
        file = io.BytesIO()
        small.save(file, format="png", optimize=True, icc_profile=None)
        return file.getvalue()


# The text -----------------------------------------------------------------------------------------


def text(data: dict[str, Any]) -> str:
    """Returns the page of {"live", "runs", "ages"}; a live page asks its server for new ones."""
    names = [run["name"] for run in data["runs"]]
    programs = {"plotly": asset("plotly-basic.min.js"), "program": asset("page.js")}
    allowed = " ".join(f"'sha256-{_digest(program)}'" for program in programs.values())
    own, server = (" 'self'", "'self'") if data["live"] else ("", "'none'")
    parts = programs | {
        "title": html.escape(names[0] if len(names) == 1 else f"{len(names)} runs"),
        "policy": f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:{own}; "
        f"connect-src {server}",
        "style": asset("page.css"),
        "data": embeddable(data),
    }
    # In one pass, because the data may have the text of a placeholder.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], asset("page.html"))


def embeddable(data: Any) -> str:
    """Returns JSON in which no text can end a <script> element or begin a comment; it is ASCII.

    A number that is not finite becomes null, because JSON has no such numbers.
    """
    return json.dumps(plain(data), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


@functools.cache
def asset(name: str) -> str:
    """Returns the text of a file of the folder `assets`."""
    return (resources.files("jaxscore.launch") / "assets" / name).read_text(encoding="utf-8")


def _digest(program: str) -> str:
    return base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
