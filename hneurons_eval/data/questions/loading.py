"""Question sets by name or path. Heavy readers (`datasets`, `pyarrow`) are imported only when needed."""

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hneurons_eval.data.questions.records import (
    SCHEMAS,
    Question,
    QuestionSetError,
    merge_duplicates,
    record_to_question,
)


@dataclass(frozen=True)
class HubSet:
    """A question set on the Hugging Face Hub, at the commit it was looked at."""

    path: str
    config: str | None
    split: str
    revision: str


HUB_SETS = {
    "triviaqa": HubSet("mandarjoshi/trivia_qa", "rc.nocontext", "train", "0f7faf33a3908546c6fd5b73a660e0f8ff173c2f"),
    "nq_open": HubSet(
        "google-research-datasets/nq_open",
        "nq_open",
        "validation",
        "5dd9790a83002ad084ddeb7c420dc716852c6f28",
    ),
    # The original asks for registration; this copy has a row per question and abstract, merged on loading.
    "bioasq": HubSet("kroshan/BioASQ", None, "validation", "d6b0152cab800446548aa0f9fcec972560cd903c"),
    "simpleqa_verified": HubSet(
        "codelion/SimpleQA-Verified", None, "train", "5a913f57326d89935cbed0ac071494e7e624b876"
    ),
}
DATASETS = ("facts", *HUB_SETS, "nonexist")
EXTENSIONS = (".jsonl", ".json", ".csv", ".parquet")


def load_questions(dataset: str, *, split: str | None = None, revision: str | None = None) -> list[Question]:
    """The questions of a set, in the order of its source.

    Args:
        dataset: `facts`, `nonexist`, `triviaqa`, `nq_open`, `bioasq`, `simpleqa_verified`, or the path of a
            .jsonl, .json, .csv or .parquet file.
        split: of a set on the Hub; its usual split unless given.
        revision: of a set on the Hub; the pinned commit unless given.

    Returns:
        Questions with unique ids; equal questions are merged and their aliases united.

    Raises:
        QuestionSetError: the set is unknown, missing, empty, malformed or without answers; or the Hub cannot
            be reached.
    """
    if dataset in HUB_SETS:
        chosen = HUB_SETS[dataset]
        chosen = HubSet(chosen.path, chosen.config, split or chosen.split, revision or chosen.revision)
        return questions_from_records(_hub_records(dataset, chosen), f"{dataset} ({chosen.split})")
    if split is not None or revision is not None:
        raise QuestionSetError(
            f"split and revision choose a part of a set on the Hub ({', '.join(HUB_SETS)}), "
            f"and {dataset!r} is "
            "none: leave them out."
        )
    if dataset == "facts":
        text = resources.files("hneurons_eval.data.questions").joinpath("facts.jsonl").read_text(encoding="utf-8")
        return questions_from_records(parse_jsonl(text, "facts.jsonl"), "facts")
    if dataset == "nonexist":
        from hneurons_eval.data.questions.nonexist import nonexist_questions

        return nonexist_questions()
    path = Path(dataset).expanduser()
    if path.suffix.lower() not in EXTENSIONS:
        if path.is_file():
            raise QuestionSetError(
                f"{dataset} has an unknown extension {path.suffix!r}: expected one of {', '.join(EXTENSIONS)}."
            )
        raise QuestionSetError(
            f"unknown question set {dataset!r}: expected one of {', '.join(DATASETS)}, or a path to a "
            f"{', '.join(EXTENSIONS)} file."
        )
    if not path.is_file():
        raise QuestionSetError(f"the question file {path} does not exist: check the path (from {os.getcwd()}).")
    return questions_from_records(read_records(path), path.name)


def questions_from_records(records: Sequence[Mapping[str, Any]], source: str) -> list[Question]:
    """Records of one schema as questions, checked as a whole.

    Raises:
        QuestionSetError: no rows, a row without a question, no answers at all, a row without answers (unless what it
            asks about does not exist), or two questions with one id.
    """
    if not records:
        raise QuestionSetError(f"{source} is empty: expected rows with {SCHEMAS}.")
    questions = [record_to_question(record, index, source) for index, record in enumerate(records)]
    bare = [index for index, question in enumerate(questions) if question.exists and not question.aliases]
    if len(bare) == len(questions):
        raise QuestionSetError(
            f"{source} is a question set without answers, so nothing can be judged right or wrong "
            f'(found columns {", ".join(map(str, records[0]))}): add a column "aliases" or "answer", choose a '
            'split that has answers, or say "exists": false where there is none.'
        )
    if bare:
        first = questions[bare[0]]
        raise QuestionSetError(
            f"row {bare[0] + 1} of {source} has no answers ({first.question!r}; {len(bare)} "
            f"such rows): add them, or "
            "drop the row."
        )
    try:
        return merge_duplicates(questions)
    except QuestionSetError as error:
        raise QuestionSetError(f"{source}: {error}") from None


# --- files -------------------------------------------------------------------------------------------


def read_records(path: Path) -> list[dict[str, Any]]:
    """The rows of a local file, by its extension.

    Raises:
        QuestionSetError: the file cannot be read as what its name says.
    """
    readers: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
        ".jsonl": lambda p: parse_jsonl(_text(p), p.name),
        ".json": lambda p: parse_json(_text(p), p.name),
        ".csv": lambda p: parse_csv(_text(p), p.name),
        ".parquet": _parquet,
    }
    return readers[path.suffix.lower()](path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte-order mark
    except UnicodeDecodeError as error:
        raise QuestionSetError(f"{path.name} is not UTF-8 text ({error}): save it as UTF-8.") from error


def parse_jsonl(text: str, source: str) -> list[dict[str, Any]]:
    """One JSON object a line; blank lines are skipped.

    Raises:
        QuestionSetError: with the line number.
    """
    rows = []
    # not splitlines(): a line separator inside a JSON string is legal
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise QuestionSetError(f"line {number} of {source} is not JSON ({error}): mend or drop it.") from error
        if not isinstance(row, dict):
            raise QuestionSetError(f"line {number} of {source} is not a JSON object: expected one with {SCHEMAS}.")
        if len(row) == 1 and isinstance(inner := next(iter(row.values())), dict):  # {id: {question, ...}}
            row = {"id": next(iter(row)), **inner}
        rows.append(row)
    return rows


def parse_json(text: str, source: str) -> list[dict[str, Any]]:
    """A list of objects, `{"data": [...]}`, or `{id: object}`.

    Raises:
        QuestionSetError: not JSON, or none of these.
    """
    if not text.strip():
        return []
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QuestionSetError(
            f"{source} is not JSON ({error}): mend it, or name it .jsonl if it has a row a line."
        ) from error
    if isinstance(content, dict):
        inner = next((content[k] for k in ("data", "questions") if isinstance(content.get(k), list)), None)
        if inner is not None:
            content = inner
        elif all(isinstance(row, dict) for row in content.values()):
            content = [{"id": key, **row} for key, row in content.items()]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise QuestionSetError(f"{source} is not a list of JSON objects: expected rows with {SCHEMAS}.")
    return content


def parse_csv(text: str, source: str) -> list[dict[str, Any]]:
    """Rows under a header line.

    Raises:
        QuestionSetError: a row longer than the header, or what the csv module cannot read.
    """
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


# --- the Hub -----------------------------------------------------------------------------------------


def _hub_records(name: str, chosen: HubSet) -> list[dict[str, Any]]:
    """The rows of a set on the Hub, from the local cache where the Hub is out of reach."""
    import datasets

    try:
        with _offline_unless(_hub_answers()):
            rows = datasets.load_dataset(chosen.path, chosen.config, split=chosen.split, revision=chosen.revision)
    except Exception as error:  # what it raises shares no base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise QuestionSetError(
            f"cannot load {name!r} ({chosen.path}, split {chosen.split!r}, revision "
            f"{chosen.revision[:12]}) from the "
            f"Hugging Face Hub ({reason}): pass a local .jsonl, .json, .csv or .parquet file "
            f"in the same schema "
            f"instead, or use the bundled set 'facts'."
        ) from error
    assert isinstance(rows, datasets.Dataset)
    return rows.to_list()


def _hub_answers(timeout: float = 5.0) -> bool:
    """Whether the Hub can be reached: `datasets` itself would retry for minutes where it cannot."""
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
