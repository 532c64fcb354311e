"""A real browser for the tests of pages: Chromium, driven by playwright. Without it they are skipped."""

import shutil
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A browser of the module's own: playwright's event loop must not outlive its tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"no browser: install one of {', '.join(PROGRAMS)}")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=QUIET.split())
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser) -> Iterator[Callable]:
    """visit(url, width=1280, ...) -> playwright's page.

    At the end of the test there must have been no message of an error or a warning, and no request to another
    place than that of the page.
    """
    wrong: list[str] = []
    contexts = []

    def open_page(url: str, *, width: int = 1280, height: int = 900, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        page, place = contexts[-1].new_page(), urlsplit(url)

        def request(asked):
            to = urlsplit(asked.url)
            if to.scheme not in ("data", "blob") and (to.scheme, to.netloc) != (place.scheme, place.netloc):
                wrong.append(f"request: {asked.url}")
            if to.scheme == "file" and to.path != place.path:
                wrong.append(f"request: {asked.url}")

        page.on("request", request)
        page.on("requestfailed", lambda asked: wrong.append(f"failed: {asked.url[:200]}"))
        page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong, "\n".join(wrong)
