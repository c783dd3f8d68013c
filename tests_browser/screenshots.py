"""Pictures of the report and of `inspect view` for the docs, from the logs of a run.

python tests_browser/screenshots.py /tmp/run/logs/demo /tmp/run/logs/behaviour
"""

import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
from browsing import chromium, explanation, inspect_view, log_of, open_log, open_sample, watched
from PIL import Image
from playwright.sync_api import Browser

from hneurons_eval.cli import main as hneurons
from hneurons_eval.util.files import write_atomically

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
COLOURS = 128
MAX_BYTES = 300_000


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=PICTURES, show_default=True)
def main(logs: tuple[Path, ...], out: Path) -> None:
    """Take pictures of the report and the viewer of LOGS."""
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "report.html"
        hneurons.main(["report", *map(str, logs), "--html", str(page)], standalone_mode=False)
        together = Path(directory) / "logs"  # the name that the pictures show
        together.mkdir()
        for path in (path for one in logs for path in one.glob("*.eval")):
            shutil.copy(path, together / path.name)
        with chromium() as browser, inspect_view(together) as address:
            of_the_report(browser, page.as_uri(), out)
            of_the_viewer(browser, address, together, out)


def of_the_report(browser: Browser, address: str, out: Path) -> None:
    """The top in light, detection in dark, and the top on a telephone."""
    with watched(browser) as seen:
        seen.page.goto(address, wait_until="load")
        keep(seen.page.screenshot(), out / "report_light.png")
    with watched(browser, "dark") as seen:
        seen.page.goto(f"{address}#detection", wait_until="load")
        keep(seen.page.screenshot(), out / "report_dark.png")
    with watched(browser, size="phone") as seen:
        seen.page.goto(address, wait_until="load")
        keep(seen.page.screenshot(), out / "report_phone.png")


def of_the_viewer(browser: Browser, address: str, logs: Path, out: Path) -> None:
    """A sample of `detect`, and what a sweep shows together."""
    with watched(browser) as seen:
        open_log(seen, address, log_of(logs, "detect"))
        seen.page.locator("[role=row]").nth(2).click()
        explanation(seen).scroll_into_view_if_needed()
        keep(seen.page.screenshot(), out / "viewer_sample.png")
    with watched(browser) as seen:
        open_sample(seen, address, log_of(logs, "closed_book"), "dose-response")
        explanation(seen).scroll_into_view_if_needed()
        seen.page.wait_for_timeout(1000)
        keep(seen.page.screenshot(), out / "viewer_sweep.png")


def keep(png: bytes, path: Path) -> None:
    """Write a picture in few colours, so that it stays small."""
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    save: Callable[[Path], None] = lambda place: image.save(place, "PNG", optimize=True)  # noqa: E731
    write_atomically(path, save)
    size = path.stat().st_size
    click.echo(f"{path}: {size:,} bytes")
    if size > MAX_BYTES:
        raise click.ClickException(f"{path} has {size:,} bytes, at most {MAX_BYTES:,} are wanted")


if __name__ == "__main__":
    main()
