"""Agreement of judges with one another and with labels by hand.

```python
answers = judged_by_rule(read_judged(Path("labels.csv")))   # columns response, aliases, label
compare(answers, "rule", "label").kappa                     # Interval(estimate, low, high)
```
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.analysis.bootstrap import Interval, bootstrap_interval, cohens_kappa
from hneurons_eval.analysis.metrics import mean_statistic
from hneurons_eval.data.files import read_records
from hneurons_eval.data.questions.records import ANSWER_COLUMNS, normalise_question, record_to_question
from hneurons_eval.judging.rule import Verdict, judge_by_rule

RULE = "rule"
LABEL = "label"
UNPARSED = "unparsed"
VERDICTS: tuple[str, ...] = get_args(Verdict)
WORDS = {
    "correct": ("correct", "true", "t", "1"),
    "incorrect": ("incorrect", "false", "f", "0"),
    "not_attempted": ("not_attempted", "not attempted", "not-attempted", "uncertain"),
    UNPARSED: ("", "unparsed", "error"),
}
"""Spellings of each verdict, in lower case. A blank label means none."""
VERDICT_OF = {word: verdict for verdict, words in WORDS.items() for word in words}
FORMATS = (
    "a .jsonl or .json file of {id: {question, responses, judges, ground_truth}}, where judges has a label for each "
    "response; or a .csv, .jsonl or .json file with the columns response, aliases and label (question too, where "
    "several answers belong to one)"
)


@dataclass(frozen=True)
class JudgedAnswer:
    """An answer with the verdicts of judges.

    Attributes:
        id: of the answer in its file or log.
        question: answers to one question are resampled together; empty: an answer on its own.
        response: what was judged.
        aliases: accepted answers.
        verdicts: by the name of a judge: correct, incorrect, not_attempted or unparsed.
    """

    id: str
    question: str
    response: str
    aliases: tuple[str, ...]
    verdicts: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """Comparison of two judges on the answers that both judged.

    Attributes:
        first: name of a judge.
        second: name of the other.
        answers: that both gave a verdict on.
        questions: that these belong to, the unit of resampling.
        left_out: answers on which one of them gave none.
        table: counts [verdict of the first, verdict of the second], in the order of `VERDICTS`.
        agreement: share of answers with the same verdict of three, with its 95 % interval.
        kappa: Cohen's, of three verdicts; None where it is undefined, as both know one verdict only.
        agreement_correct: share of answers that both call correct or both do not.
        kappa_correct: Cohen's, of these two classes.
    """

    first: str
    second: str
    answers: int
    questions: int
    left_out: int
    table: NDArray[np.int64]
    agreement: Interval
    kappa: Interval | None
    agreement_correct: Interval
    kappa_correct: Interval | None


def read_judged(path: Path) -> list[JudgedAnswer]:
    """Judged answers from a file: `judges` and `label` are the names of the judges that such files have.

    Rows with a label may have a column `verdicts` too, an object {judge: verdict}, as `disagreements` writes it.

    Raises:
        ValueError: the file is no such file, a label is not known, an answer has no aliases, or nothing is there.
    """
    if path.suffix.lower() not in (".jsonl", ".json", ".csv"):
        raise ValueError(f"{path} has an unknown extension {path.suffix!r}: expected {FORMATS}")
    found: list[JudgedAnswer] = []
    for number, record in enumerate(read_records(path, FORMATS)):
        where = f"row {number + 1} of {path.name}"
        if {"responses", "judges"} <= record.keys():
            found += _judged_draws(record, number, where, path.name)
        elif {"response", LABEL} <= record.keys():
            found.append(_labelled(record, number, where, path.name))
        else:
            raise ValueError(f"{where} has the columns {', '.join(map(str, record)) or 'none'}: expected {FORMATS}")
    if not found:
        raise ValueError(f"{path} is empty: expected {FORMATS}")
    return found


def _judged_draws(record: Mapping[str, Any], number: int, where: str, source: str) -> list[JudgedAnswer]:
    responses, labels = record["responses"], record["judges"]
    if not isinstance(responses, list) or not isinstance(labels, list) or len(responses) != len(labels):
        raise ValueError(f"{where} should have lists of one length in responses and judges, a label for each response")
    question = record_to_question(record, number, source)
    _check_aliases(question.aliases, where)
    return [
        JudgedAnswer(
            id=f"{question.id} {draw}",
            question=question.question,
            response=_text(response, where),
            aliases=question.aliases,
            verdicts={"judges": _verdict(label, where)},
        )
        for draw, (response, label) in enumerate(zip(responses, labels, strict=True), start=1)
    ]


def _labelled(record: Mapping[str, Any], number: int, where: str, source: str) -> JudgedAnswer:
    text = str(record.get("question") or "").strip()
    columns = {column: record[column] for column in ANSWER_COLUMNS if column in record}
    aliases = record_to_question({"question": text or "unknown", **columns}, number, source).aliases
    _check_aliases(aliases, where)
    others = record.get("verdicts") or {}
    if not isinstance(others, Mapping):
        raise ValueError(f"{where} should have an object of verdicts by judge in verdicts, found {others!r}")
    verdicts = {str(judge): _verdict(label, where) for judge, label in others.items()}
    return JudgedAnswer(
        id=str(record.get("id") or number + 1),
        question=text,
        response=_text(record["response"], where),
        aliases=aliases,
        verdicts={**verdicts, LABEL: _verdict(record[LABEL], where)},
    )


def _check_aliases(aliases: Sequence[str], where: str) -> None:
    if not aliases:
        raise ValueError(f"{where} has no accepted answers: fill the column aliases (or ground_truth), or drop the row")


def _text(response: Any, where: str) -> str:
    if not isinstance(response, str):
        raise ValueError(f"{where} has a response that is no text: {response!r}")
    return response


def _verdict(label: Any, where: str) -> str:
    word = "" if label is None else str(label).strip().lower()
    if word not in VERDICT_OF:
        known = "; ".join(f"{verdict}: {', '.join(filter(None, words))}" for verdict, words in WORDS.items())
        raise ValueError(f"{where} has the label {label!r}: expected one of {known} (or a blank one)")
    return VERDICT_OF[word]


def judged_by_rule(answers: Sequence[JudgedAnswer]) -> list[JudgedAnswer]:
    """The same answers with the verdict of the rule as it is now, under `rule`."""
    known: dict[tuple[str, tuple[str, ...]], str] = {}
    found = []
    for answer in answers:
        key = (answer.response, answer.aliases)
        if key not in known:
            known[key] = judge_by_rule(*key)
        others = {judge: verdict for judge, verdict in answer.verdicts.items() if judge != RULE}
        found.append(replace(answer, verdicts={RULE: known[key], **others}))
    return found


def joined(answers: Sequence[JudgedAnswer], others: Sequence[JudgedAnswer]) -> list[JudgedAnswer]:
    """Answers that two readings share, by id and response, with the verdicts of both.

    A judge of the second reading whose name the first has as well is called "other NAME".

    Raises:
        ValueError: they share no answer.
    """
    by_id = {(other.id, other.response): other for other in others}
    found = []
    for answer in answers:
        other = by_id.get((answer.id, answer.response))
        if other is not None:
            renamed = {
                f"other {judge}" if judge in answer.verdicts else judge: verdict
                for judge, verdict in other.verdicts.items()
            }
            found.append(replace(answer, verdicts={**answer.verdicts, **renamed}))
    if not found:
        raise ValueError("the two have no answer in common (the same sample, epoch and response): give two of one run")
    return found


def judges_of(answers: Sequence[JudgedAnswer]) -> list[str]:
    """The judges of some answers, in the order of their first verdict."""
    return list(dict.fromkeys(judge for answer in answers for judge in answer.verdicts))


def compare(answers: Sequence[JudgedAnswer], first: str, second: str) -> Comparison:
    """Confusion, agreement and Cohen's kappa of two judges; intervals by bootstrap, clustered by question.

    Raises:
        ValueError: no answer on which both gave a verdict.
    """
    both = [answer for answer in answers if _given(answer, first) and _given(answer, second)]
    either = [answer for answer in answers if first in answer.verdicts or second in answer.verdicts]
    if not both:
        given = [sum(_given(answer, judge) for answer in answers) for judge in (first, second)]
        raise ValueError(
            f"there is no answer on which both {first} and {second} gave a verdict: of {len(answers)} answers they "
            f"gave one on {given[0]} and on {given[1]}"
        )
    codes = [np.array([VERDICTS.index(answer.verdicts[judge]) for answer in both]) for judge in (first, second)]
    clusters = np.unique([_cluster(answer) for answer in both], return_inverse=True)[1]
    table = np.zeros((len(VERDICTS), len(VERDICTS)), np.int64)
    np.add.at(table, tuple(codes), 1)

    def agreement(one: NDArray[Any], other: NDArray[Any]) -> tuple[Interval, Interval | None]:
        share = bootstrap_interval(mean_statistic(one == other), clusters)
        # Undefined on the data or, of a few rows, in most resamples.
        try:
            return share, cohens_kappa(one, other, clusters)
        except ValueError:
            return share, None

    share, kappa = agreement(*codes)
    share_correct, kappa_correct = agreement(*(code == VERDICTS.index("correct") for code in codes))
    return Comparison(
        first=first,
        second=second,
        answers=len(both),
        questions=int(clusters.max()) + 1,
        left_out=len(either) - len(both),
        table=table,
        agreement=share,
        kappa=kappa,
        agreement_correct=share_correct,
        kappa_correct=kappa_correct,
    )


def _given(answer: JudgedAnswer, judge: str) -> bool:
    return answer.verdicts.get(judge, UNPARSED) != UNPARSED


def _cluster(answer: JudgedAnswer) -> str:
    return normalise_question(answer.question) if answer.question else f"\x00{answer.id}"


def disagreements(answers: Sequence[JudgedAnswer]) -> list[dict[str, Any]]:
    """Answers on which judges differ, the most frequent first, with a `label` to be filled by hand.

    Equal answers to one question are one row, and `times` says how many they are. A file of these rows, once
    labelled, is one that `read_judged` takes.
    """
    rows = [answer for answer in answers if len(set(answer.verdicts.values()) - {UNPARSED}) > 1]
    same = Counter(_row_key(answer) for answer in rows)
    first = {_row_key(answer): answer for answer in reversed(rows)}
    return [
        {
            "question": answer.question,
            "response": answer.response,
            "verdicts": {judge: verdict for judge, verdict in answer.verdicts.items() if judge != LABEL},
            "label": answer.verdicts.get(LABEL, ""),
            "times": times,
            "aliases": list(answer.aliases),
        }
        for key, times in same.most_common()
        for answer in [first[key]]
    ]


def _row_key(answer: JudgedAnswer) -> tuple[str, str, str]:
    return answer.question or answer.id, answer.response, json.dumps(dict(answer.verdicts), sort_keys=True)
