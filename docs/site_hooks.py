"""What the site needs beside its pages: the package as it is imported, and the accounts of the bundled data."""

import shutil
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build" / "docs-source"
"""A copy in which tasks/, scorers/ and solvers/ stand where they are imported from; see `paths` in mkdocs.yml."""
ACCOUNTS = {
    "../hneurons_eval/data/questions/FACTS.md": "data_facts.md",
    "../hneurons_eval/data/questions/NONEXIST.md": "data_nonexist.md",
    "../hneurons_eval/data/behaviours/BEHAVIOURS.md": "data_behaviours.md",
}
"""Files of the package to which pages link: as the link is written, and the page of the site that it becomes."""


def on_startup(command: str, dirty: bool) -> None:
    """Lay out the package for the reference pages."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "hneurons_eval", SOURCE / "hneurons_eval", ignore=ignored)
    for name in ("tasks", "scorers", "solvers"):
        shutil.copytree(ROOT / name, SOURCE / "hneurons_eval" / name, ignore=ignored)


def on_files(files: Files, config: Any) -> Files:
    """Add the accounts of the bundled data as pages."""
    for link, page in ACCOUNTS.items():
        path = (ROOT / "docs" / link).resolve()
        files.append(File.generated(config, page, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links to files of the package lead to their pages."""
    for link, target in ACCOUNTS.items():
        markdown = markdown.replace(f"({link})", f"({target})")
    return markdown
