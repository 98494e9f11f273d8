"""Pages in a browser."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def watched(browser: Any, address: str, origin: str, only_errors: bool = False, **options: Any) -> Iterator[Any]:
    """A page, loaded; in the end, nothing (or no error) is in its console, and nothing came from elsewhere."""
    page = browser.new_page(**options)
    problems, requests = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: (said.type == "error" or not only_errors) and problems.append(said.text))
    page.on("request", lambda sent: requests.append(sent.url))
    page.goto(address)
    yield page
    page.close()
    assert problems == []
    assert all(url.startswith((origin, "data:", "blob:")) for url in requests)
