"""Stage 2: contributions of the neurons to consistently right and consistently wrong answers."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import Score

from hneurons_eval.artifacts.contribution_shards import PRECISIONS
from hneurons_eval.artifacts.logs import StageScore, read_stage, reduced_scores
from hneurons_eval.artifacts.paths import check_writable
from hneurons_eval.data.official import find_official, read_official
from hneurons_eval.engine import MAX_CONNECTIONS
from hneurons_eval.engine.prompts import conversation
from hneurons_eval.scorers.captured import captured
from hneurons_eval.scorers.judge import grader
from hneurons_eval.solvers.capture import OFFICIAL, SPANS, capture_given
from hneurons_eval.tasks.sampled_by import capturing_model, check_sampler
from hneurons_eval.util.errors import UsageError, checked_arguments, usage_errors

logger = logging.getLogger(__name__)
LABEL_OF = {"right": "faithful", "wrong": "hallucinated"}
OUTCOME_OF = {label: outcome for outcome, label in LABEL_OF.items()}


def balanced(rows: Sequence[StageScore], per_class: int, seed: int = 0) -> list[StageScore]:
    """Balanced selection: as many right as wrong questions within each relation, at most `per_class` of each in all.

    Otherwise a probe could guess the label from the relation.
    """
    rng = np.random.default_rng(seed)
    by_relation: dict[str, dict[str, list[StageScore]]] = defaultdict(lambda: {"right": [], "wrong": []})
    for row in rows:
        outcome = str(row.score.value)
        if outcome in LABEL_OF:
            by_relation[str(row.metadata.get("relation"))][outcome].append(row)
    pairs: list[tuple[StageScore, StageScore]] = []
    for relation in sorted(by_relation):
        sides = [
            [own[i] for i in rng.permutation(len(own))]
            for own in (by_relation[relation]["right"], by_relation[relation]["wrong"])
        ]
        pairs += list(zip(*sides, strict=False))
    if len(pairs) > per_class:
        pairs = [pairs[i] for i in sorted(rng.permutation(len(pairs))[:per_class])]
    return [row for pair in pairs for row in pair]


@task
@checked_arguments
def capture(
    responses: str = "",
    per_class: int = 1000,
    span: str = "rule",
    reduce: str = "mean",
    precision: str = "float32",
    seed: int = 0,
    labels: str = "",
) -> Task:
    """Capture contributions of consistently right and wrong answers; the log is the input of `probe`.

    One teacher-forced pass over prompt and response for each chosen question, with its most frequent answer. The
    classes are balanced within each relation: as many right as wrong questions, so the smaller number decides. The
    contributions are stored among the artifacts; the log holds their keys.

    Where another engine sampled the answers, such as a server with a name of its own for the model, `--model-role
    capture=hneurons/MODEL` names the model that captures; it needs the same tokenizer and chat template.

    Args:
        responses: the log of `collect`, or a directory that holds it; or answers in the official repository's format
            (`*answer_tokens*.jsonl`).
        per_class: most questions of each class (paper: 1,000).
        span: where the answer is: `rule`, `llm` (needs --model-role grader=MODEL), `response` (all of it), or with
            the official files `official` (their answer tokens).
        reduce: `mean` (the paper's) or `max` over the tokens of a region.
        precision: of the contributions on disk: `float32`, or `float16` at half the size (see `StoreSpec`).
        seed: of the choice of questions.
        labels: of official answers, the `*qids.json` that belongs to them; found by its name if left out.
    """
    if per_class < 1:
        raise UsageError(f"per_class should be at least 1, found {per_class}")
    if span not in SPANS:
        raise UsageError(f"span should be one of {', '.join(SPANS)}, found {span!r}")
    if reduce not in ("mean", "max"):
        raise UsageError(f"reduce should be mean or max, found {reduce!r}")
    if precision not in PRECISIONS:
        raise UsageError(f"precision should be {' or '.join(PRECISIONS)}, found {precision!r}")
    with usage_errors():
        check_writable()
        official = find_official(str(responses), labelled=bool(labels))
        source = _from_log(responses, span, labels) if official is None else _from_official(official, labels)
        if span == "llm":
            grader()
    chosen = balanced(source.rows, per_class, seed)
    if not chosen:
        counts = _counts(source.rows)
        raise UsageError(
            f"responses has {counts['right']} consistently right and {counts['wrong']} consistently wrong questions"
            f" and no relation that has both; {source.remedy}"
        )
    logger.warning(said := _what_is_captured(source.rows, chosen))
    if span == OFFICIAL and all(row.metadata["official_span"] is None for row in chosen):
        raise UsageError("responses has no answer tokens that stand in their response exactly once; use span=rule")
    return Task(
        dataset=MemoryDataset([_sample(row) for row in chosen], name=source.name),
        solver=capture_given(span, reduce, precision),
        scorer=captured(),
        config=GenerateConfig(max_connections=MAX_CONNECTIONS),
        metadata={**source.metadata, "reduce": reduce, "span": span, "balanced": said},
    )


def _counts(rows: Sequence[StageScore]) -> dict[str, int]:
    return {outcome: sum(str(row.score.value) == outcome for row in rows) for outcome in LABEL_OF}


def _what_is_captured(rows: Sequence[StageScore], chosen: Sequence[StageScore]) -> str:
    """How many questions are captured of how many, and why no more."""
    counts = _counts(rows)
    relations = {row.metadata.get("relation") for row in chosen}
    return (
        f"capturing {len(chosen) // 2} right and {len(chosen) // 2} wrong of {len(rows)} questions: {counts['right']} "
        f"are consistently right and {counts['wrong']} consistently wrong, and as many of either are taken within each "
        f"relation ({len(relations)} in all)"
    )


@dataclass(frozen=True)
class Source:
    """Judged answers, in the form of a collect log's scores.

    Attributes:
        name: of the data set.
        rows: answers of both classes, and others, which are left out.
        remedy: what to do where they cannot be balanced.
        metadata: what the capture log says of where they come from.
    """

    name: str | None
    rows: list[StageScore]
    remedy: str
    metadata: dict[str, Any]


def _from_log(responses: str, span: str, labels: str) -> Source:
    for parameter, wanted in (("span=official", span == OFFICIAL), ("labels", bool(labels))):
        if wanted:
            raise UsageError(
                f"{parameter} goes with the official repository's files (responses=*answer_tokens*.jsonl), "
                f"found responses={responses}"
            )
    log = read_stage(responses, "collect", "responses")
    rows = reduced_scores(log, "judge", "responses")
    compared = check_sampler(log, rows, capturing_model())
    return Source(
        log.eval.dataset.name,
        rows,
        "collect more questions, or fewer draws at a lower temperature",
        {"source": log.location, **compared},
    )


def _from_official(file: Path, labels: str) -> Source:
    capturing_model()
    official = read_official(file, Path(labels.removeprefix("file://")) if labels else None)
    rows = [
        StageScore(
            answer.id,
            Score(
                value=OUTCOME_OF[answer.label],
                answer=answer.response,
                metadata={
                    "question": answer.question,
                    "aliases": [],
                    "relation": None,
                    "prompt": [{"role": "user", "content": answer.prompt}],
                    "official_span": None if answer.span is None else list(answer.span),
                },
            ),
        )
        for answer in official.answers
    ]
    return Source(
        file.stem,
        rows,
        "give answers and labels of both classes",
        {
            "source": str(file),
            "labels": str(official.labels or file),
            "answered_by": "not said by the official files; it may be another model than the one captured",
            "without_label": official.without_label,
            "without_answer": official.without_answer,
        },
    )


def _sample(row: StageScore) -> Sample:
    details = row.metadata
    label = LABEL_OF[str(row.score.value)]
    return Sample(
        id=row.sample_id,
        input=conversation(details["prompt"]),
        target=label,
        metadata={
            "question": details["question"],
            "aliases": details["aliases"],
            "relation": details.get("relation"),
            "response": row.score.answer or "",
            "label": label,
            **{key: details[key] for key in ("official_span",) if key in details},
        },
    )
