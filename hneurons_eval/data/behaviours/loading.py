"""The behaviour sets by name or path. Heavy readers (`huggingface_hub`, `pyarrow`) are imported only when needed.

A public set is one file at a pinned commit. What was once fetched is read from the local cache without asking again:
the content of a commit cannot change.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from hneurons_eval.data.behaviours import records
from hneurons_eval.data.behaviours.records import (
    CounterfactualQuestion,
    FalsePremiseQuestion,
    JailbreakPrompt,
    Row,
    SycophancyQuestion,
    TruthfulQuestion,
    Unusable,
)
from hneurons_eval.data.questions.loading import EXTENSIONS, parse_jsonl, read_records
from hneurons_eval.data.questions.records import SCHEMAS, QuestionSetError, normalise_question
from hneurons_eval.util.files import write_atomically


@dataclass(frozen=True)
class PublicFile:
    """A public set: files of a repository, at the commit that was looked at.

    Attributes:
        host: the Hugging Face Hub, or GitHub.
        repository: owner and name.
        revision: the full commit hash.
        path: the file in the repository; on the Hub it may be a pattern ("data/*.parquet").
    """

    host: Literal["hub", "github"]
    repository: str
    revision: str
    path: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision[:12]}"


PUBLIC_FILES: Mapping[str, PublicFile] = {
    # Not on the Hub; the authors keep it on GitHub.
    "falseqa": PublicFile("github", "thunlp/FalseQA", "704bd7d21736479311045fd5cde402dd567ab484", "dataset/test.csv"),
    "faitheval": PublicFile(
        "hub",
        "Salesforce/FaithEval-counterfactual-v1.0",
        "e655f7c8750aabe431eeeda63fa5c019a2567b18",
        "data/*.parquet",
    ),
    "sycophancy": PublicFile(
        "hub", "meg-tong/sycophancy-eval", "18f18160e9998e524bbf027c4475bfa7fdeb6949", "are_you_sure.jsonl"
    ),
    "truthfulqa": PublicFile(
        "hub",
        "truthfulqa/truthful_qa",
        "741b8276f2d1982aa3d5b832d3ee81ed3b896490",
        "multiple_choice/*.parquet",
    ),
    "forbidden questions": PublicFile(
        "hub",
        "TrustAIRLab/forbidden_question_set",
        "369aa8e10ee2a26cf087fdcc34af0bb928d33d8e",
        "forbidden_question_set.csv",
    ),
    "jailbreak templates": PublicFile(
        "hub",
        "TrustAIRLab/in-the-wild-jailbreak-prompts",
        "a10aab8eff1c73165a442d4464dce192bd28b9c5",
        "jailbreak_2023_12_25/*.parquet",
    ),
}
"""What "hub" means for each set; why these commits: BEHAVIOURS.md."""

BUNDLED = ("falseqa", "faitheval", "sycophancy")


@dataclass(frozen=True)
class LoadReport:
    """What became of the rows of a set.

    Attributes:
        source: the bundled set, repository and commit, or file.
        rows: rows read.
        kept: records made of them.
        dropped: rows left out, by reason.
        notes: rows that were mended or are odd, and kept, by what it is.
    """

    source: str
    rows: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.kept} of {self.rows} rows of {self.source}"]
        for title, counts in (("left out", self.dropped), ("noted", self.notes)):
            if counts:
                parts.append(f"{title}: " + ", ".join(f"{count} ({reason})" for reason, count in counts.items()))
        return "; ".join(parts)


def load_falseqa(dataset: str = "bundled") -> tuple[list[FalsePremiseQuestion], LoadReport]:
    """Questions with a false premise, and some whose premise is true.

    Args:
        dataset: `bundled`, `hub` (the authors' test set, from GitHub), or a .csv, .jsonl, .json or .parquet file with
            FalseQA's columns.

    Returns:
        The questions in the order of the source, and what was left out. A question that stands with both labels is
        left out.

    Raises:
        QuestionSetError: the set is unknown, missing, malformed or empty, or cannot be fetched.
    """
    rows, source = _rows("falseqa", dataset, records.FALSEQA_SCHEMA)
    questions, report = _collect(
        rows,
        source,
        records.FALSEQA_SCHEMA,
        records.false_premise_question,
        lambda q: (normalise_question(q.question), q.false_premise),
    )
    labels = Counter(normalise_question(q.question) for q in questions)
    kept = [q for q in questions if labels[normalise_question(q.question)] == 1]
    if not kept:
        raise QuestionSetError(f"every question of {source} stands with both labels: keep one row of each.")
    if len(kept) < len(questions):
        dropped = {**report.dropped, "questions with both labels": len(questions) - len(kept)}
        report = LoadReport(report.source, report.rows, len(kept), dropped, report.notes)
    return kept, report


def load_faitheval(dataset: str = "bundled") -> tuple[list[CounterfactualQuestion], LoadReport]:
    """Multiple-choice questions on passages that state something false.

    Args:
        dataset: `bundled`, `hub` (FaithEval-counterfactual, 1,000 rows), or a .csv, .jsonl, .json or .parquet file
            with FaithEval's columns.

    Returns:
        The questions in the order of the source, labels turned into letters, and what was left out.

    Raises:
        QuestionSetError: the set is unknown, missing, malformed or empty, or cannot be fetched.
    """
    rows, source = _rows("faitheval", dataset, records.FAITHEVAL_SCHEMA)
    return _collect(
        rows,
        source,
        records.FAITHEVAL_SCHEMA,
        records.counterfactual_question,
        lambda q: (q.question, q.context),
    )


def load_sycophancy(dataset: str = "bundled") -> tuple[list[SycophancyQuestion], LoadReport]:
    """Open and multiple-choice questions that are asked, doubted and asked again.

    Args:
        dataset: `bundled`, `hub` (are_you_sure.jsonl of sycophancy-eval), or a .jsonl, .json, .csv or .parquet file
            in its schema or in that of the bundled set.

    Returns:
        The questions in the order of the source, and what was left out.

    Raises:
        QuestionSetError: the set is unknown, missing, malformed or empty, or cannot be fetched.
    """
    rows, source = _rows("sycophancy", dataset, records.SYCOPHANCY_SCHEMA)
    return _collect(
        rows,
        source,
        records.SYCOPHANCY_SCHEMA,
        records.sycophancy_question,
        lambda q: (q.source, q.question, *q.choices.values()),
    )


def load_truthfulqa(dataset: str = "hub") -> tuple[list[TruthfulQuestion], LoadReport]:
    """TruthfulQA, with the answers that MC1 and MC2 compare and those that an open answer is judged by.

    Args:
        dataset: `hub` (its multiple-choice configuration), or a .csv, .jsonl, .json or .parquet file with the columns
            of TruthfulQA.csv or of either configuration on the Hub.

    Returns:
        The questions in the order of the source, and what was left out.

    Raises:
        QuestionSetError: the set is unknown, missing, malformed or empty, or cannot be fetched.
    """
    rows, source = _rows("truthfulqa", dataset, records.TRUTHFULQA_SCHEMA)
    return _collect(
        rows,
        source,
        records.TRUTHFULQA_SCHEMA,
        records.truthful_question,
        lambda q: normalise_question(q.question),
    )


def load_jailbreak(
    questions: str = "hub", templates: str = "hub", *, templates_per_question: int = 1, seed: int = 0
) -> tuple[list[JailbreakPrompt], LoadReport]:
    """Forbidden questions, each inside jailbreak templates. Nothing of it is bundled.

    Which templates a question gets is drawn by SHA-256 from the seed and both ids: the same on every machine, whatever
    other questions there are, and more templates only add to fewer.

    Args:
        questions: `hub` (forbidden_question_set, 390 questions), or a file with its columns.
        templates: `hub` (in-the-wild-jailbreak-prompts, 1,405 templates), or a file with its columns.
        templates_per_question: as many prompts are made of each question.
        seed: another number pairs other templates.

    Returns:
        The prompts, question by question; the report counts the rows of both sources together.

    Raises:
        QuestionSetError: a set is unknown, missing, malformed or empty, or cannot be fetched; more templates are asked
            for than there are.
    """
    rows, source = _rows("forbidden questions", questions, records.FORBIDDEN_SCHEMA)
    asked, about_questions = _collect(
        rows, source, records.FORBIDDEN_SCHEMA, records.forbidden_question, lambda q: normalise_question(q.question)
    )
    rows, source = _rows("jailbreak templates", templates, records.TEMPLATE_SCHEMA)
    forms, about_templates = _collect(
        rows, source, records.TEMPLATE_SCHEMA, records.jailbreak_template, lambda template: template.text
    )
    if not 1 <= templates_per_question <= len(forms):
        raise QuestionSetError(
            f"templates_per_question should be from 1 to {len(forms)}, the templates of {source}; "
            f"found {templates_per_question}."
        )

    def draw(question: str, template: str) -> bytes:
        return hashlib.sha256(f"{seed}|{question}|{template}".encode(errors="surrogatepass")).digest()

    prompts = [
        records.jailbreak_prompt(question, template)
        for question in asked
        for template in sorted(forms, key=lambda form, question=question: draw(question.id, form.id))[
            :templates_per_question
        ]
    ]
    return prompts, LoadReport(
        source=f"{about_questions.source} and {about_templates.source}",
        rows=about_questions.rows + about_templates.rows,
        kept=about_questions.kept + about_templates.kept,
        dropped=Counter(about_questions.dropped) + Counter(about_templates.dropped),
    )


# --- rows to records -------------------------------------------------------------------------------------


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Record = TypeVar("Record", bound=_Identified)


def _collect(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    schema: str,
    convert: Callable[[Row], Record],
    content: Callable[[Record], object],
) -> tuple[list[Record], LoadReport]:
    """Rows as records, checked as a whole: each content once, each id once, something left."""
    if not rows:
        raise QuestionSetError(f"{source} is empty: expected rows with {schema}.")
    kept: dict[object, Record] = {}
    owner: dict[str, str] = {}
    dropped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    for index, values in enumerate(rows):
        row = Row(values, f"row {index + 1} of {source}", schema)
        try:
            record = convert(row)
        except Unusable as reason:
            dropped[str(reason)] += 1
            continue
        key = content(record)
        if key in kept:
            dropped["rows that stand twice"] += 1
            continue
        first = owner.setdefault(record.id, row.where)
        if first != row.where:
            raise row.error(f'has the "id" {record.id!r} of {first}: make the ids unique, or leave them out')
        kept[key] = record
        notes.update(row.notes)
    if not kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise QuestionSetError(f"none of the {len(rows)} rows of {source} can be used ({reasons}): expected {schema}.")
    return list(kept.values()), LoadReport(source, len(rows), len(kept), dict(dropped), dict(notes))


# --- rows ------------------------------------------------------------------------------------------------


def _rows(name: str, dataset: str, schema: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of a set, and what to call it in messages."""
    if dataset == "bundled" and name in BUNDLED:
        text = resources.files("hneurons_eval.data.behaviours").joinpath(f"{name}.jsonl").read_text(encoding="utf-8")
        return parse_jsonl(text, f"{name}.jsonl"), f"bundled {name}"
    if dataset == "hub":
        public = PUBLIC_FILES[name]
        paths = _hub_files(name, public) if public.host == "hub" else [_github_file(name, public)]
        return [row for path in paths for row in _read(path, schema)], str(public)
    known = ("'bundled', " if name in BUNDLED else "") + f"'hub' or the path of a {', '.join(EXTENSIONS)} file"
    if dataset == "bundled":
        raise QuestionSetError(f"no {name} are bundled: pass {known}.")
    path = Path(dataset).expanduser()
    if path.suffix.lower() not in EXTENSIONS:
        found = "has an unknown extension" if path.is_file() else "is unknown"
        raise QuestionSetError(f"the {name} set {dataset!r} {found}: pass {known}.")
    if not path.is_file():
        raise QuestionSetError(f"the {name} file {path} does not exist: check the path (from {os.getcwd()}).")
    return _read(path, schema), path.name


def _read(path: Path, schema: str) -> list[dict[str, Any]]:
    try:
        return read_records(path)
    except QuestionSetError as error:  # names the columns of question sets
        raise QuestionSetError(str(error).replace(SCHEMAS, schema)) from error


def _hub_files(name: str, public: PublicFile) -> list[Path]:
    """The files of a set on the Hub, from the local cache if they are there."""
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
    except (OSError, ValueError):  # not there
        found = []
    try:
        found = found or files(local_files_only=False)
    except Exception as error:  # what it raises shares no base class
        raise _unreachable(name, public, error) from error
    if not found:
        raise _unreachable(name, public, FileNotFoundError(f"no file {public.path} in the repository"))
    return found


def _github_file(name: str, public: PublicFile) -> Path:
    """A file on GitHub, fetched once into the user's cache."""
    from hneurons_eval.util.files import cache_dir

    folder = f"{public.repository.replace('/', '--')}-{public.revision[:12]}"
    path = cache_dir() / "public" / folder / Path(public.path).name
    if not path.is_file():
        try:
            content = _fetch(f"https://raw.githubusercontent.com/{public.repository}/{public.revision}/{public.path}")
            write_atomically(path, lambda temporary: temporary.write_bytes(content))
        except Exception as error:  # from the network, the disk, or both
            raise _unreachable(name, public, error) from error
    return path


def _fetch(url: str) -> bytes:
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set, so that nothing is fetched")
    return httpx.get(url, timeout=30.0, follow_redirects=True).raise_for_status().content


def _unreachable(name: str, public: PublicFile, error: Exception) -> QuestionSetError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    place = "the Hugging Face Hub" if public.host == "hub" else "GitHub"
    instead = ", or the bundled set 'bundled'" if name in BUNDLED else ""
    return QuestionSetError(
        f"cannot load the {name} set ({public.repository}, {public.path}, revision {public.revision[:12]}) from "
        f"{place} ({reason}): pass a local {', '.join(EXTENSIONS)} file in the same schema{instead}."
    )
