"""Rows of question and behaviour sets: from local files, bundled files, and public repositories at pinned commits.

```python
rows = read_records(Path("my_questions.csv"), 'a column "question"')   # also .jsonl, .json, .parquet
rows = bundled_records("facts.jsonl", "questions")
paths = public_files("faitheval", PUBLIC_FILES["faitheval"])           # downloaded once
```

Heavy readers (`datasets`, `huggingface_hub`, `pyarrow`) are imported only when needed.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from hneurons_eval.util.files import cache_dir, write_atomically

EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet")


class QuestionSetError(ValueError):
    """An unusable question or behaviour set; the message says in one sentence what to do."""


# --- local files -------------------------------------------------------------------------------------


def local_file(name: str, kind: str, others: str) -> Path:
    """The path of a set that is neither bundled nor public.

    `kind` of set ("question") and the `others` that are accepted too are for messages.

    Raises:
        QuestionSetError: an unknown name or extension, or no such file.
    """
    path = Path(name).expanduser()
    if path.suffix.lower() not in EXTENSIONS:
        found = "has an unknown extension" if path.is_file() else "is unknown"
        known = f"{others} or the path of a {', '.join(EXTENSIONS)} file"
        raise QuestionSetError(f"the {kind} set {name!r} {found}: pass {known}.")
    if not path.is_file():
        raise QuestionSetError(f"the {kind} file {path} does not exist: check the path (from {os.getcwd()}).")
    return path


def read_records(path: Path, schema: str) -> list[dict[str, Any]]:
    """The rows of a local file; its extension tells the format, and `schema` the expected columns, for messages.

    Raises:
        QuestionSetError: the file is not of the format that its extension names.
    """
    if path.suffix.lower() == ".parquet":
        return _parquet(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte-order mark
    except UnicodeDecodeError as error:
        raise QuestionSetError(f"{path.name} is not UTF-8 text ({error}): save it as UTF-8.") from error
    parsers: dict[str, Callable[[str, str, str], list[dict[str, Any]]]] = {
        ".jsonl": _parse_jsonl,
        ".json": _parse_json,
        ".csv": _parse_csv,
    }
    return parsers[path.suffix.lower()](text, path.name, schema)


def bundled_records(name: str, package: str) -> list[dict[str, Any]]:
    """The rows of a bundled .jsonl file of `hneurons_eval.data.<package>`."""
    return _parse_jsonl(resources.files(f"hneurons_eval.data.{package}").joinpath(name).read_text("utf-8"), name, "")


def _parse_jsonl(text: str, source: str, schema: str) -> list[dict[str, Any]]:
    rows = []
    # not splitlines(): a line separator inside a JSON string is legal
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise QuestionSetError(f"line {number} of {source} is not JSON ({error}): correct or drop it.") from error
        if not isinstance(row, dict):
            raise QuestionSetError(f"line {number} of {source} is not a JSON object: expected {schema}.")
        if len(row) == 1 and isinstance(inner := next(iter(row.values())), dict):  # {id: {question, ...}}
            row = {"id": next(iter(row)), **inner}
        rows.append(row)
    return rows


def _parse_json(text: str, source: str, schema: str) -> list[dict[str, Any]]:
    """Rows of a list of objects, `{"data": [...]}`, or `{id: object}`."""
    if not text.strip():
        return []
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QuestionSetError(
            f"{source} is not JSON ({error}): correct it, or name it .jsonl if each line is a row."
        ) from error
    if isinstance(content, dict):
        inner = next((content[k] for k in ("data", "questions") if isinstance(content.get(k), list)), None)
        if inner is not None:
            content = inner
        elif all(isinstance(row, dict) for row in content.values()):
            content = [{"id": key, **row} for key, row in content.items()]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise QuestionSetError(f"{source} is not a list of JSON objects: expected {schema}.")
    return content


def _parse_csv(text: str, source: str, schema: str) -> list[dict[str, Any]]:
    try:
        rows = list(csv.DictReader(text.splitlines(keepends=True)))
    except csv.Error as error:
        raise QuestionSetError(f"{source} is not CSV ({error}): check its quotation marks.") from error
    for number, row in enumerate(rows, start=1):
        if None in row:
            raise QuestionSetError(f"row {number} of {source} has more cells than the header: quote cells with commas.")
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise QuestionSetError(f"{path.name} is not a Parquet file ({error}): check the file.") from error


# --- public files ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublicFile:
    """Files of a public repository at a pinned commit.

    Attributes:
        host: the Hugging Face Hub, or GitHub.
        repository: owner and name.
        revision: the full commit hash.
        path: the file in the repository; on the Hub also a pattern ("data/*.parquet").
        bundled: the bundled set to use instead; None if there is none.
    """

    host: Literal["hub", "github"]
    repository: str
    revision: str
    path: str
    bundled: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision[:12]}"


def public_files(name: str, public: PublicFile) -> list[Path]:
    """Local copies of public files; downloaded once, since the content of a commit cannot change.

    Raises:
        QuestionSetError: a download fails; `name` is the set's name in the message.
    """
    try:
        return _hub_files(public) if public.host == "hub" else [_github_file(public)]
    except Exception as error:  # from the network, the disk, or both
        raise _unreachable(f"{name} set ({public.repository}, {public.path}", public, error) from error


def _hub_files(public: PublicFile) -> list[Path]:
    from huggingface_hub import snapshot_download

    def files(local_files_only: bool) -> list[Path]:
        folder = snapshot_download(
            public.repository,
            repo_type="dataset",
            revision=public.revision,
            allow_patterns=public.path,
            local_files_only=local_files_only,
        )
        return sorted(Path(folder).glob(public.path))

    try:
        found = files(local_files_only=True)
    except (OSError, ValueError):  # not in the cache
        found = []
    found = found or files(local_files_only=False)
    if not found:
        raise FileNotFoundError(f"no file {public.path} in the repository")
    return found


def _github_file(public: PublicFile) -> Path:
    folder = f"{public.repository.replace('/', '--')}-{public.revision[:12]}"
    path = cache_dir() / "public" / folder / Path(public.path).name
    if not path.is_file():
        content = _fetch(f"https://raw.githubusercontent.com/{public.repository}/{public.revision}/{public.path}")
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return path


def _fetch(url: str) -> bytes:
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    return httpx.get(url, timeout=30.0, follow_redirects=True).raise_for_status().content


# --- data sets of the Hub, read by `datasets` --------------------------------------------------------


@dataclass(frozen=True)
class HubSet:
    """A data set on the Hugging Face Hub at a pinned commit."""

    path: str
    config: str | None
    split: str
    revision: str


def hub_records(name: str, chosen: HubSet) -> list[dict[str, Any]]:
    """The rows of a data set on the Hub, from the local cache if the Hub cannot be reached.

    Raises:
        QuestionSetError: it cannot be loaded; `name` is the set's name in the message.
    """
    import datasets

    try:
        with _offline_unless(_hub_answers()):
            rows = datasets.load_dataset(chosen.path, chosen.config, split=chosen.split, revision=chosen.revision)
    except Exception as error:  # its exceptions share no base class
        raise _unreachable(f"{name} set ({chosen.path}, split {chosen.split!r}", chosen, error) from error
    assert isinstance(rows, datasets.Dataset)
    return rows.to_list()


def _hub_answers(timeout: float = 5.0) -> bool:
    """Whether the Hub can be reached; if not, `datasets` itself would retry for minutes."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=timeout, follow_redirects=True)
    except (httpx.HTTPError, OSError):
        return False
    return True


@contextmanager
def _offline_unless(online: bool) -> Iterator[None]:
    """Inside the block the Hugging Face libraries use their cache only, unless `online`."""
    import datasets.config as hf_config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, hf_config.HF_HUB_OFFLINE
    if not online:
        constants.HF_HUB_OFFLINE = hf_config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, hf_config.HF_HUB_OFFLINE = before


def _unreachable(what: str, public: PublicFile | HubSet, error: Exception) -> QuestionSetError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    host = "GitHub" if isinstance(public, PublicFile) and public.host == "github" else "the Hugging Face Hub"
    bundled = public.bundled if isinstance(public, PublicFile) else "facts"
    instead = f", or the bundled set {bundled!r}" if bundled else ""
    return QuestionSetError(
        f"cannot load the {what}, revision {public.revision[:12]}) from {host} ({reason}): "
        f"pass a local {', '.join(EXTENSIONS)} file in the same schema{instead}."
    )
