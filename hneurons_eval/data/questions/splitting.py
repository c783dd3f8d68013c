"""Split of a question set into a training and a test part without common relations."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from hneurons_eval.data.questions.records import Question, normalise_question

TEST_SHARE = 0.2


def split_questions(questions: Sequence[Question]) -> tuple[list[Question], list[Question]]:
    """The training and the test part, about four to one; the same in every run.

    Whole relations are kept apart if every question has one and there are at least five; otherwise questions.
    """
    related = all(question.relation for question in questions)
    if related and len({question.relation for question in questions}) < 5:
        related = False
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        groups[str(question.relation) if related else normalise_question(question.question)].append(question)
    order = sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())
    test: set[str] = set()
    size = 0
    for group in order:
        if size >= TEST_SHARE * len(questions):
            break
        test.add(group)
        size += len(groups[group])
    held = {id(question) for group in test for question in groups[group]}
    train = [question for question in questions if id(question) not in held]
    return train, [question for question in questions if id(question) in held]
