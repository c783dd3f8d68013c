"""Questions, and their records in any known schema."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hneurons_eval.data.files import QuestionSetError

ANSWER_ONLY = " Respond with the answer only, without any explanation."
"""The paper's suffix of each question (arXiv 2512.01797)."""

QUESTION_COLUMNS = ("question", "problem", "Question")
ANSWER_COLUMNS = (
    "aliases", "answers", "answer", "target", "Best Answer", "Correct Answers", "ground_truth", "text",
)  # fmt: skip
ID_COLUMNS = ("id", "question_id", "original_index", "key")
RELATION_COLUMNS = ("relation", "topic", "Category", "question_source")
SCHEMAS = (
    'a column "question" (or "problem", "Question") and one of "aliases", "answers", "answer", "target" '
    '(a string or a list), as in TriviaQA, NQ-Open, SimpleQA-Verified; "id" and "relation" are optional, and so is '
    '"exists": false for a question on an invented thing, which has no answer'
)
# Columns with several answers in one string; in others ";" belongs to the answer.
SEMICOLON_COLUMNS = ("Correct Answers",)


@dataclass(frozen=True)
class Question:
    """A question and its acceptable answers.

    Attributes:
        id: unique in its set, the same in every run.
        question: without any suffix.
        aliases: accepted answers, the canonical one first; none if the question's subject does not exist.
        relation: the kind of question (bundled facts), or its source.
        metadata: the other columns of the record.
        exists: False if the question's subject is invented, so that every confident answer is wrong
            (`hneurons_eval.judging.nonexistent` judges the responses).
    """

    id: str
    question: str
    aliases: tuple[str, ...]
    relation: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    exists: bool = True


def normalise_question(text: str) -> str:
    """A question without differences of case, spacing or punctuation (NFKC, casefold).

    For grouping and for train/test overlap, not for judging. Signs with a meaning are kept ("C++" is not "C", "1.5" is
    not "15"), as are the signs of a text without letters and digits.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words = re.findall(r"\d+(?:[.,]\d+)+|\w+(?:[+#]+(?!\w))?", text.replace("_", " "))
    return " ".join(words) or " ".join(text.split())


def content_id(*parts: str) -> str:
    """The id of a record without one: a hash of its content."""
    return "q-" + hashlib.sha256("\x1f".join(parts).encode(errors="surrogatepass")).hexdigest()[:16]


def is_empty(value: object) -> bool:
    """Whether a cell is empty: None, NaN, white space, an empty list."""
    return value is None or value != value or (isinstance(value, str) and not value.strip()) or value == []


def record_to_question(record: Mapping[str, Any], index: int, source: str) -> Question:
    """A row of any known schema as a `Question`.

    Its columns tell the schema: TriviaQA (`answer` a mapping), NQ-Open, SimpleQA-Verified, TruthfulQA's CSV, BioASQ
    (`<answer> ... <context> ...` in `text`), or the generic one. The aliases may be empty.

    Args:
        record: the row.
        index: its position in the source from 0, for messages.
        source: the name of the set or file, for messages.

    Raises:
        QuestionSetError: no question column, a value of the wrong kind, or answers about something that does not
            exist.
    """
    where = f"row {index + 1} of {source}"
    column = next((c for c in QUESTION_COLUMNS if c in record), None)
    if column is None:
        found = ", ".join(map(str, record)) or "none"
        raise QuestionSetError(f"{where} has no question column: found columns {found}; expected {SCHEMAS}.")
    text = record[column]
    if not isinstance(text, str) or not text.strip():
        raise QuestionSetError(f"{where} has an empty question ({column!r} is {text!r}): fill it or drop the row.")
    aliases = unique_aliases(a for c in ANSWER_COLUMNS for a in _answers(record.get(c), c, where))
    given, group = _first_filled(record, ID_COLUMNS), _first_filled(record, RELATION_COLUMNS)
    exists = _exists(record.get("exists"), where)
    if aliases and not exists:
        raise QuestionSetError(
            f'{where} asks about something that does not exist ("exists" is false) and has answers '
            f"({', '.join(aliases[:3])}): there is no right answer to it; leave one of the two out."
        )
    used = {column, *ANSWER_COLUMNS, "id", "question_id", "relation", "context", "exists"}
    return Question(
        id=content_id(normalise_question(text)) if given is None else given,
        question=" ".join(text.split()),
        aliases=aliases,
        relation=group,
        metadata={str(k): v for k, v in record.items() if k not in used and not is_empty(v)},
        exists=exists,
    )


def unique_aliases(names: Iterable[str]) -> tuple[str, ...]:
    """Names without empty ones and without repetitions up to case and spacing; the first spelling is kept."""
    first: dict[str, str] = {}
    for name in names:
        name = " ".join(name.split())
        if name:
            first.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
    return tuple(first.values())


def merge_duplicates(questions: Sequence[Question]) -> list[Question]:
    """The questions with equal ones merged: the first row, with the aliases of all.

    Raises:
        QuestionSetError: different questions with one id, or equal ones that disagree about `exists`.
    """
    merged: dict[str, Question] = {}
    owner: dict[str, str] = {}
    for question in questions:
        key = normalise_question(question.question)
        if owner.setdefault(question.id, key) != key:
            other = merged[owner[question.id]].question
            raise QuestionSetError(
                f"the id {question.id!r} belongs to two different questions ({other!r} and "
                f"{question.question!r}): make the ids unique, or leave them out."
            )
        if key in merged:
            kept = merged[key]
            if kept.exists != question.exists:
                raise QuestionSetError(
                    f"two rows ask {kept.question!r}, and only one of them about something that exists: keep one."
                )
            question = replace(kept, aliases=unique_aliases((*kept.aliases, *question.aliases)))
        merged[key] = question
    return list(merged.values())


def _exists(value: Any, where: str) -> bool:
    """The column "exists", true if empty; CSV cells hold words."""
    if is_empty(value):
        return True
    known = {"true": True, "false": False}.get(str(value).strip().lower())
    if known is None:
        raise QuestionSetError(f'{where} has {value!r} in "exists": expected true or false.')
    return known


def _first_filled(record: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    return next((str(record[c]) for c in columns if not is_empty(record.get(c))), None)


def _answers(value: Any, column: str, where: str) -> Iterable[str]:
    """The answers in a column, in order."""
    if column == "text":
        match = re.match(r"\s*<answer>(.*?)<context>", value, re.DOTALL) if isinstance(value, str) else None
        return [match[1]] if match else []
    if is_empty(value):
        return []
    if isinstance(value, bool):
        raise _wrong_kind(value, column, where)
    if isinstance(value, int | float):
        return [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)]
    if isinstance(value, str):
        return _answers_in_text(value, column)
    if isinstance(value, Mapping):  # TriviaQA
        parts = ("value", "aliases", "normalized_value", "normalized_aliases")
        return [a for part in parts for a in _answers(value.get(part), part, where)]
    if isinstance(value, Iterable):
        items = list(value)
        if all(isinstance(item, str | int | float) and not isinstance(item, bool) for item in items):
            # a string inside a list is an answer as it stands
            parts = [[item] if isinstance(item, str) else _answers(item, column, where) for item in items]
            return [a for part in parts for a in part]
    raise _wrong_kind(value, column, where)


def _wrong_kind(value: Any, column: str, where: str) -> QuestionSetError:
    return QuestionSetError(
        f"{where} has a {type(value).__name__} in {column!r}: an answer is a string or a list of strings."
    )


def _answers_in_text(value: str, column: str) -> list[str]:
    if column in SEMICOLON_COLUMNS:
        return value.split(";")
    if value.lstrip().startswith("["):  # a list that a CSV cell carries as JSON
        try:
            items = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
        if isinstance(items, list) and all(isinstance(i, str | int | float) for i in items):
            return [str(i) for i in items]
    return [value]
