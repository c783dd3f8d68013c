"""One browser, one run of all stages on the bundled model, and logs of hostile answers, for the session."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs the network
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

from browsing import apart, chromium, inspect_view
from playwright.sync_api import Browser, expect
from shown_logs import hostile_logs, whole_run
from small_run import SHARED

expect.set_options(timeout=60_000)  # a busy machine is slow, not wrong


@pytest.fixture(scope="session")
def browser(run_logs: Path) -> Iterator[Browser]:
    # The run comes first: an evaluation needs the event loop that the browser then occupies.
    with chromium() as one:
        yield one


@pytest.fixture(scope="session")
def run_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage, two sweeps, an external task with risks, and drift."""
    os.environ[SHARED] = str(tmp_path_factory.mktemp("shared"))
    return whole_run()


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs whose answers, questions and names are hostile."""
    directory = tmp_path_factory.mktemp("hostile")
    return apart(lambda: hostile_logs(directory))


@pytest.fixture(scope="session")
def viewer(run_logs: Path) -> Iterator[str]:
    with inspect_view(run_logs) as address:
        yield address


@pytest.fixture(scope="session")
def hostile_viewer(hostile: Path) -> Iterator[str]:
    with inspect_view(hostile) as address:
        yield address
