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
    relations = {question.relation for question in questions}
    related = len(relations) >= 5 and all(relations)
    groups: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        groups[str(question.relation) if related else normalise_question(question.question)].append(question)
    held: set[int] = set()
    for group in sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest()):
        if len(held) >= TEST_SHARE * len(questions):
            break
        held.update(map(id, groups[group]))
    train = [question for question in questions if id(question) not in held]
    return train, [question for question in questions if id(question) in held]
