"""Behaviour sets by name or path.

Each loader returns the records in the order of the source, and a `LoadReport`. `dataset` is `bundled`, `hub` (pinned in
`PUBLIC_FILES`), or a .csv, .jsonl, .json or .parquet file with the set's columns. A set that is unknown, missing,
malformed or empty, or cannot be downloaded, raises `QuestionSetError`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import nsmallest
from typing import Any, Protocol, TypeVar

from hneurons_eval.data.behaviours import schemas
from hneurons_eval.data.behaviours.records import (
    CounterfactualQuestion,
    FalsePremiseQuestion,
    ForbiddenQuestion,
    JailbreakPrompt,
    JailbreakTemplate,
    SycophancyQuestion,
    TruthfulQuestion,
)
from hneurons_eval.data.behaviours.rows import Row, Unusable
from hneurons_eval.data.files import (
    PublicFile,
    QuestionSetError,
    bundled_records,
    local_file,
    public_files,
    read_records,
)
from hneurons_eval.data.questions.records import normalise_question

PUBLIC_FILES: Mapping[str, PublicFile] = {
    # The authors keep it on GitHub; it is not on the Hub.
    "falseqa": PublicFile(
        "github", "thunlp/FalseQA", "704bd7d21736479311045fd5cde402dd567ab484", "dataset/test.csv", "bundled"
    ),
    "faitheval": PublicFile(
        "hub",
        "Salesforce/FaithEval-counterfactual-v1.0",
        "e655f7c8750aabe431eeeda63fa5c019a2567b18",
        "data/*.parquet",
        "bundled",
    ),
    "sycophancy": PublicFile(
        "hub", "meg-tong/sycophancy-eval", "18f18160e9998e524bbf027c4475bfa7fdeb6949", "are_you_sure.jsonl", "bundled"
    ),
    "truthfulqa": PublicFile(
        "hub", "truthfulqa/truthful_qa", "741b8276f2d1982aa3d5b832d3ee81ed3b896490", "multiple_choice/*.parquet"
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
"""The public files that `hub` names; BEHAVIOURS.md says why these commits."""

BUNDLED = tuple(name for name, public in PUBLIC_FILES.items() if public.bundled)


@dataclass(frozen=True)
class LoadReport:
    """Counts of the rows of a set.

    Attributes:
        source: the bundled set, repository and commit, or file.
        rows: rows read.
        kept: records made of them.
        dropped: rows left out, by reason.
        notes: kept rows that were corrected or are odd, by note.
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
    """FalseQA: questions with a false premise, and some with a true one. `hub` is the authors' test set, from GitHub.

    Questions with both labels are left out.
    """
    questions, report = _load(
        "falseqa",
        dataset,
        schemas.FALSEQA_SCHEMA,
        schemas.false_premise_question,
        lambda q: (normalise_question(q.question), q.false_premise),
    )
    labels = Counter(normalise_question(q.question) for q in questions)
    kept = [q for q in questions if labels[normalise_question(q.question)] == 1]
    if not kept:
        raise QuestionSetError(f"every question of {report.source} has both labels: keep one row of each.")
    if len(kept) < len(questions):
        dropped = {**report.dropped, "questions with both labels": len(questions) - len(kept)}
        report = replace(report, kept=len(kept), dropped=dropped)
    return kept, report


def load_faitheval(dataset: str = "bundled") -> tuple[list[CounterfactualQuestion], LoadReport]:
    """FaithEval-counterfactual: multiple-choice questions on passages that state something false."""
    convert = schemas.counterfactual_question
    return _load("faitheval", dataset, schemas.FAITHEVAL_SCHEMA, convert, lambda q: (q.question, q.context))


def load_sycophancy(dataset: str = "bundled") -> tuple[list[SycophancyQuestion], LoadReport]:
    """Questions of sycophancy-eval (are_you_sure.jsonl), which are asked, doubted and asked again.

    Files may also have the columns of the bundled set.
    """
    return _load(
        "sycophancy",
        dataset,
        schemas.SYCOPHANCY_SCHEMA,
        schemas.sycophancy_question,
        lambda q: (q.source, q.question, *q.choices.values()),
    )


def load_truthfulqa(dataset: str = "hub") -> tuple[list[TruthfulQuestion], LoadReport]:
    """TruthfulQA, with the answers for MC1 and MC2 and the references for open answers; not bundled.

    `hub` is its multiple-choice configuration. Files have the columns of either configuration, or of TruthfulQA.csv.
    """
    convert = schemas.truthful_question
    return _load("truthfulqa", dataset, schemas.TRUTHFULQA_SCHEMA, convert, lambda q: normalise_question(q.question))


def load_jailbreak(
    questions: str = "hub", templates: str = "hub", *, templates_per_question: int = 1, seed: int = 0
) -> tuple[list[JailbreakPrompt], LoadReport]:
    """Forbidden questions, each inside jailbreak templates; nothing is bundled.

    The templates of a question are chosen by SHA-256 of the seed and both ids: the same on every machine, whatever the
    other questions. A larger `templates_per_question` only adds templates.

    Args:
        questions: `hub` (forbidden_question_set, 390 questions), or a file with its columns.
        templates: `hub` (in-the-wild-jailbreak-prompts, 1,405 templates), or a file with its columns.
        templates_per_question: prompts of each question; `QuestionSetError` if there are fewer templates.
        seed: of the choice of templates.

    Returns:
        The prompts, question by question, and a report on the rows of both sources together.
    """
    asked, of_questions = _load(
        "forbidden questions",
        questions,
        schemas.FORBIDDEN_SCHEMA,
        schemas.forbidden_question,
        lambda q: normalise_question(q.question),
    )
    forms, of_templates = _load(
        "jailbreak templates", templates, schemas.TEMPLATE_SCHEMA, schemas.jailbreak_template, lambda form: form.text
    )
    if not 1 <= templates_per_question <= len(forms):
        raise QuestionSetError(
            f"templates_per_question should be from 1 to {len(forms)}, the templates of {of_templates.source}; "
            f"found {templates_per_question}."
        )

    def order(question: ForbiddenQuestion, template: JailbreakTemplate) -> bytes:
        return hashlib.sha256(f"{seed}|{question.id}|{template.id}".encode(errors="surrogatepass")).digest()

    prompts = [
        schemas.jailbreak_prompt(question, template)
        for question in asked
        for template in nsmallest(templates_per_question, forms, key=partial(order, question))
    ]
    return prompts, LoadReport(
        source=f"{of_questions.source} and {of_templates.source}",
        rows=of_questions.rows + of_templates.rows,
        kept=of_questions.kept + of_templates.kept,
        dropped=Counter(of_questions.dropped) + Counter(of_templates.dropped),
    )


class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Record = TypeVar("Record", bound=_Identified)


def _load(
    name: str, dataset: str, schema: str, convert: Callable[[Row], Record], content: Callable[[Record], object]
) -> tuple[list[Record], LoadReport]:
    """The records of a set; rows with equal `content` are left out, and ids have to be unique."""
    rows, source = _rows(name, dataset, schema)
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
            dropped["repeated rows"] += 1
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


def _rows(name: str, dataset: str, schema: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of a set, and its name in messages."""
    public = PUBLIC_FILES[name]
    if dataset == "bundled" and public.bundled:
        return bundled_records(f"{name}.jsonl", "behaviours"), f"bundled {name}"
    if dataset == "hub":
        return [row for path in public_files(name, public) for row in read_records(path, schema)], str(public)
    others = "'bundled', 'hub'" if public.bundled else "'hub'"
    path = local_file(dataset, name, others)
    return read_records(path, schema), path.name
