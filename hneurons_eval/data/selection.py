"""Subsets of question sets: a part, or a number of questions drawn by a seed."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from hneurons_eval.data.behaviours import FalsePremiseQuestion
from hneurons_eval.data.questions import Question, load_questions, split_questions
from hneurons_eval.util.errors import UsageError, usage_errors

Record = TypeVar("Record")


def check_questions(number: int | None) -> None:
    """Refuse a limit on questions that leaves none.

    Raises:
        UsageError: it is below 1.
    """
    if number is not None and number < 1:
        raise UsageError(f"questions should be at least 1, found {number}")


def questions_for(dataset: str, part: str = "all", split: str | None = None) -> list[Question]:
    """The questions of a set, or of its training or test part.

    Raises:
        UsageError: no such set, a file that cannot be read, questions without answers, or an unknown part.
    """
    with usage_errors():
        questions = load_questions(dataset, split=split)
        if part == "all":
            return questions
        train, test = split_questions(questions)
        if part not in ("train", "test"):
            raise UsageError(f"part should be all, train or test, found {part!r}")
        return train if part == "train" else test


def spread(questions: Sequence[Question], limit: int, seed: int) -> list[Question]:
    """At most `limit` questions, drawn evenly over relations."""
    rng = np.random.default_rng(seed)
    order = [questions[i] for i in rng.permutation(len(questions))]
    taken: dict[str | None, int] = {}
    ranked = []
    for place, question in enumerate(order):
        taken[question.relation] = taken.get(question.relation, 0) + 1
        ranked.append((taken[question.relation], place))
    return [order[place] for _, place in sorted(ranked)[:limit]]


def subset(rows: Sequence[Record], number: int | None, seed: int) -> list[Record]:
    """At most so many rows, in their own order; None: all."""
    if number is None or number >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(np.random.default_rng(seed).permutation(len(rows))[:number].tolist())]


def some_pairs(rows: Sequence[FalsePremiseQuestion], questions: int, seed: int) -> list[FalsePremiseQuestion]:
    """At most so many rows of either premise, with the twins of a pair kept together as far as they go."""
    order = np.random.default_rng(seed).permutation(len({row.pair or row.id for row in rows}))
    rank = dict(zip(dict.fromkeys(row.pair or row.id for row in rows), order.tolist(), strict=True))
    kept: list[FalsePremiseQuestion] = []
    for premise in (True, False):
        own = sorted((row for row in rows if row.false_premise is premise), key=lambda row: rank[row.pair or row.id])
        kept += own[:questions]
    return kept
