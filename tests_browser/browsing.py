"""A real browser, what it complains about, and `inspect view` to show it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from playwright.sync_api import Browser, Locator, Page, sync_playwright

T = TypeVar("T")
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
SECONDS = 60


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's chromium without a window; `make test-browser` installs it.

    Raises:
        RuntimeError: there is none.
    """
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise RuntimeError("chromium is not installed; as root: apt-get install -y chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def apart(function: Callable[[], T]) -> T:
    """What a function returns that needs an event loop, of which the browser occupies the one of this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


@dataclass
class Watched:
    """A page and what happened on it.

    Attributes:
        page: of the browser.
        complaints: errors and warnings of its console, and exceptions that nothing caught.
        requests: every address that was asked for.
        dialogs: what popped up.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def says(self, script: str) -> Any:
        """What a script finds out on the page."""
        return self.page.evaluate(script)


@contextmanager
def watched(browser: Browser, scheme: Any = "light", size: str = "desk") -> Iterator[Watched]:
    """A page of its own, in a colour scheme and a size, that is watched from the start."""
    width, height = SIZES[size]
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": height}, is_mobile=size == "phone", locale="en-GB"
    )
    page = context.new_page()
    page.set_default_timeout(1000 * SECONDS)
    seen = Watched(page)
    page.on(
        "console",
        lambda message: (
            seen.complaints.append(f"{message.type}: {message.text}") if message.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: seen.complaints.append(f"uncaught: {error}"))
    page.on("request", lambda request: seen.requests.append(request.url))

    def dismiss(dialog: Any) -> None:
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    try:
        yield seen
    finally:
        context.close()


@contextmanager
def inspect_view(logs: Path) -> Iterator[str]:
    """`inspect view` of a directory of logs; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "inspect_ai", "view", "start", "--log-dir", str(logs), "--host", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    ) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, process)
            yield address
        finally:
            process.terminate()


def _wait_for(address: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"inspect view ended with {process.returncode}")
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"inspect view does not answer at {address}")


def log_of(logs: Path, task: str) -> str:
    """The file name of the newest log of a task."""
    return max(path.name for path in logs.glob("*.eval") if f"_{task.replace('_', '-')}_" in path.name)


def open_log(seen: Watched, address: str, name: str) -> None:
    """Open a log in `inspect view` and wait for its samples."""
    seen.page.goto(f"{address}/#/logs/{name}")
    seen.page.locator("[role=row]").nth(1).wait_for()


def open_sample(seen: Watched, address: str, name: str, sample: str, epoch: int = 1) -> None:
    """Open one sample of a log, at its scores."""
    seen.page.goto(f"{address}/#/logs/{name}/samples/sample/{sample}/{epoch}/")
    open_tab(seen, "scoring")
    explanation(seen).wait_for()


def open_tab(seen: Watched, name: str) -> None:
    """Go to a tab of the open sample."""
    seen.page.get_by_role("tab", name=re.compile(f"^{name}$", re.IGNORECASE)).first.click()


def explanation(seen: Watched) -> Locator:
    """Where the score of the open sample is explained."""
    return seen.page.get_by_text(re.compile("^explanation$", re.IGNORECASE)).last
