"""The HTML report in a real browser: whole, quiet, without network, on a desk and on a phone, light and dark."""

from pathlib import Path

import pytest
from browsing import SIZES, apart, watched
from click.testing import CliRunner
from playwright.sync_api import Browser
from shown_logs import MARK

from hneurons_eval.cli import main


def report(logs: Path, directory: Path) -> str:
    """The address of the page that `hneurons report` writes of logs."""
    page = directory / "report.html"
    done = apart(lambda: CliRunner().invoke(main, ["report", str(logs), "--html", str(page)]))
    assert done.exit_code == 0, done.output
    return page.as_uri()


@pytest.fixture(scope="module")
def address(run_logs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(run_logs, tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_the_page_loads_whole_and_quietly(browser: Browser, address: str, scheme: str, size: str):
    with watched(browser, scheme, size) as seen:
        seen.page.goto(address, wait_until="load")
        assert seen.complaints == []
        assert [one for one in seen.requests if not one.startswith("data:")] == [address]
        for name in ("overview", "neurons", "detection", "scaling", "risk", "drift", "examples", "logs"):
            assert seen.page.locator(f"section#{name} h2").is_visible(), name
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert seen.says(broken) == 0
        assert seen.says("document.images.length") >= 7
        # Tables may scroll within themselves; the page does not.
        assert seen.says("document.documentElement.scrollWidth <= window.innerWidth")


def brightness(colour: str) -> float:
    """Of `rgb(r, g, b)`, from 0 to 255."""
    return sum(map(float, colour[colour.index("(") + 1 : -1].split(",")[:3])) / 3


def test_text_stands_out_in_light_and_dark(browser: Browser, address: str):
    found = {}
    for scheme in ("light", "dark"):
        with watched(browser, scheme) as seen:
            seen.page.goto(address)
            back, text = (seen.says(f"getComputedStyle(document.body).{what}") for what in ("backgroundColor", "color"))
            found[scheme] = brightness(back), brightness(text)
    assert found["status"][0] > 200 > 100 > found["status"][1]
    assert found["dark"][0] < 60 < 180 < found["dark"][1]


def test_links_of_the_page_lead_to_its_sections(browser: Browser, address: str):
    with watched(browser) as seen:
        seen.page.goto(address)
        for link in seen.page.locator("nav a").all():
            link.click()
            target = str(link.get_attribute("href"))
            assert seen.page.locator(target).is_visible()
            assert seen.says("window.location.hash") == target


def test_details_open(browser: Browser, address: str):
    with watched(browser, size="phone") as seen:
        seen.page.goto(address)
        closed = seen.page.locator("#scaling details:not([open])").first
        closed.locator("summary").click()
        assert seen.page.locator("#scaling details[open] table").last.is_visible()


def test_the_page_prints(browser: Browser, address: str):
    with watched(browser, "dark") as seen:
        seen.page.goto(address)
        seen.page.emulate_media(media="print")
        assert not seen.page.locator("nav").is_visible()
        assert brightness(seen.says("getComputedStyle(document.body).backgroundColor")) > 250
        assert seen.page.pdf()[:5] == b"%PDF-"


def test_hostile_answers_are_text(browser: Browser, hostile: Path, tmp_path: Path):
    with watched(browser) as seen:
        seen.page.goto(report(hostile, tmp_path), wait_until="load")
        assert seen.page.get_by_text(MARK).count() > 0
        assert seen.says("typeof window.pwned") == "undefined"
        assert seen.dialogs == []
        assert seen.complaints == []
        assert len([one for one in seen.requests if not one.startswith("data:")]) == 1
        assert seen.says("document.querySelectorAll('script, iframe, svg, h1 ~ h1, a[href^=javascript]').length") == 0
