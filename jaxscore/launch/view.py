"""One page over many runs: curves, tables, pictures, and what differs between their configurations.

    python -m jaxscore.launch.view runs/*                       # live, in a browser
    python -m jaxscore.launch.view runs/* --out comparison.html # a file, to send or to keep

The page is served to this machine alone, and only for reading; it follows runs that still train.
"""

import contextlib
import dataclasses
import http.server
import os
import re
import sys
import threading
import webbrowser
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote

import tyro

from jaxscore.launch import console, flags, page, summaries, workdir
from jaxscore.launch.run import one_line_errors
from jaxscore.launch.workdir import Refusal

HOST = "127.0.0.1"
PORT = 8008
NOT_RUNS = {"checkpoints", "snapshots", "tensorboard", "report"}
"""Folders of a run in which no run is looked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """Looks at runs in a browser."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, or folders that contain them."""
    out: Path | None = None
    """Write the page to this file, and serve nothing."""
    port: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Port of the page on this machine; 8008, or a free one, by default."""


def main(arguments: list[str] | None = None) -> None:
    """Parses flags, then writes the page or serves it until Ctrl-C."""
    with one_line_errors():
        view = flags.parse(View, arguments)
        with contextlib.suppress(KeyboardInterrupt):
            if view.out is None:
                serve(view.runs, view.port)
            else:
                written(view.out, found(view.runs))


def serve(places: Sequence[Path], port: int | None) -> None:
    """Serves the page of the runs, and opens it where there is a screen."""
    with server(places, port) as serving:
        url = f"http://{HOST}:{serving.server_port}/"
        console.say(f"{url} shows the runs; Ctrl-C ends it")
        if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
            webbrowser.open(url)
        serving.serve_forever()


def found(places: Sequence[Path]) -> list[Path]:
    """Returns the folders of runs: each place that is one, and those below a place that is none.

    Raises Refusal if a place does not exist, or if there is no run.
    """
    runs: dict[Path, None] = {}
    for place in places:
        if not place.exists() and not place.is_symlink():  # a pattern such as runs/* may find a dead link
            raise Refusal(f"{place}: is not there; name folders of runs")
        here = dict.fromkeys(sorted(_below(place)))
        if not here:
            console.say(f"{place}: holds no run, and is left out")
        runs |= here
    if not runs:
        raise Refusal("no run was found: name folders that have a config.json, such as runs/*")
    return list(runs)


def _below(place: Path) -> list[Path]:
    runs = []
    for folder, inside, files in os.walk(place):
        parts = NOT_RUNS if "config.json" in files else set()
        inside[:] = [name for name in inside if name not in parts and not name.startswith(".")]
        if "config.json" in files:
            runs.append(Path(folder))
        linked = (Path(folder, name) for name in inside if os.path.islink(os.path.join(folder, name)))
        runs += [run for run in linked if (run / "config.json").is_file()]
    return runs


def written(out: Path, folders: Sequence[Path]) -> None:
    """Writes a page of the runs that needs no server. Raises Refusal if it cannot be written."""
    try:
        workdir.write_text(out, page.alone(folders))
    except OSError as error:
        raise Refusal(f"--out {out}: cannot be written ({error.strerror}); name a file in a folder") from None
    console.say(f"page: {out}")


# The server ---------------------------------------------------------------------------------------


class Runs:
    """The runs in some places, also those that begin later; each keeps its number."""

    def __init__(self, places: Sequence[Path]):
        self.places, self.folders, self.lock = places, found(places), threading.Lock()

    def current(self) -> dict[str, Any]:
        """Returns what a live page shows now; a picture has the address at which the server has it."""
        with self.lock:
            new = (run for place in self.places for run in sorted(_below(place)))
            self.folders += [run for run in dict.fromkeys(new) if run not in self.folders]
            folders = list(self.folders)
        runs = page.summarised(folders)
        for place, (run, folder) in enumerate(zip(runs, folders, strict=True)):
            run["pictures"] = [
                page.named(folder, path) | {"src": _address(place, folder, path), "reduced": False}
                for path in summaries.pictures(folder)
            ]
        return {"live": True, "runs": runs, "ages": [summaries.age(folder) for folder in folders]}


def server(places: Sequence[Path], port: int | None = None) -> http.server.ThreadingHTTPServer:
    """Returns a server of the page on this machine's own address.

    Raises Refusal if there is no run, or if the port is taken.
    """
    handler = partial(Handler, Runs(places))
    for each in (PORT, 0) if port is None else (port,):
        try:
            return Server((HOST, each), handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or "must be from 0 to 65535"
    raise Refusal(f"--port {port}: {reason}; leave it out for a free one")


def _address(run: int, folder: Path, path: Path) -> str:
    """Returns where the picture is asked for; the time of its last change makes a browser ask again."""
    changed = 0
    with contextlib.suppress(OSError):
        changed = path.stat().st_mtime_ns
    return f"picture/{run}/{quote(str(path.relative_to(folder)), errors='surrogateescape')}?{changed}"


class Server(http.server.ThreadingHTTPServer):
    """A server that says nothing of clients that leave before they have their answer."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says what went wrong, unless the client has left."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET of the page, of its data, and of the pictures of the runs; of nothing else."""

    timeout = 30.0
    """Seconds in which a client must ask."""

    def __init__(self, runs: Runs, *connection: Any):
        self.runs = runs
        super().__init__(*connection)

    def do_GET(self) -> None:
        """Answers a request."""
        # Another site's page can be made to reach this address under a name of its own.
        if self.headers.get("Host", "").split(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        path = self.path.partition("?")[0]
        if path == "/":
            html = page.text(self.runs.current()).encode(errors="backslashreplace")
            self._answer("text/html; charset=utf-8", html)
        elif path == "/data.json":
            self._answer("application/json", page.embeddable(self.runs.current()).encode())
        elif (picture := self._picture(path)) is not None:
            self._answer("image/png", picture)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _picture(self, path: str) -> bytes | None:
        """Returns the picture /picture/RUN/FILE, or None if the page has no such picture."""
        try:
            run, file = re.fullmatch(r"/picture/(\d{1,6})/(.+)", path).groups()
            folder, name = self.runs.folders[int(run)], unquote(file, errors="surrogateescape")
            shown = {str(path.relative_to(folder)): path for path in summaries.pictures(folder)}
            return page.png(shown[name])
        except (AttributeError, IndexError, KeyError, OSError, ValueError):
            return None

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content)

    def log_message(self, *said: Any) -> None:
        """Says nothing of requests."""


if __name__ == "__main__":
    main()
