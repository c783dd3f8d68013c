"""Stage 2: contributions of the neurons to consistently right and consistently wrong answers."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
)

from hneurons_eval.provider_limits import MOST_CONNECTIONS
from hneurons_eval.refusals import Refused, refusing
from hneurons_eval.scorers.captured import captured
from hneurons_eval.scorers.judge import grader
from hneurons_eval.solvers.capture import SPANS, capture_given
from hneurons_eval.tasks.stage_logs import StageScore, check_same_model, read_stage, reduced_scores

T = TypeVar("T")
LABEL_OF = {"right": "faithful", "wrong": "hallucinated"}


def balanced(rows: Sequence[StageScore], per_class: int, seed: int = 0) -> list[StageScore]:
    """As many right as wrong questions within each relation, at most `per_class` of each in all.

    A label that the relation gives away would let a probe pass by recognising relations.
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


def conversation(prompt: Sequence[dict[str, str]]) -> list[ChatMessage]:
    """The messages that were answered, as a collect log keeps them."""
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    return [kinds[turn["role"]](content=turn["content"]) for turn in prompt]


@task
def capture(
    responses: str = "",
    per_class: int = 1000,
    span: str = "rule",
    reduce: str = "mean",
    seed: int = 0,
) -> Task:
    """Capture contributions of consistently right and wrong answers; the log is the input of `probe`.

    One teacher-forced pass over prompt and response for each chosen question, over its most frequent answer. The
    two classes are balanced within each relation. Contributions go to the artifacts, the log points to them.

    Args:
        responses: the log of `collect`, or a directory that holds it.
        per_class: most questions of each class (paper: 1,000).
        span: where the answer is: `rule`, `llm` (needs --model-role grader=MODEL) or `response` (all of it).
        reduce: `mean` (the paper's) or `max` over the tokens of a region.
        seed: of the choice of questions.
    """
    if per_class < 1:
        raise Refused(f"per_class should be at least 1, found {per_class}")
    if span not in SPANS:
        raise Refused(f"span should be one of {', '.join(SPANS)}, found {span!r}")
    if reduce not in ("mean", "max"):
        raise Refused(f"reduce should be mean or max, found {reduce!r}")
    log = read_stage(responses, "collect", "responses")
    check_same_model(log, "responses")
    if span == "llm":
        with refusing():
            grader()
    rows = reduced_scores(log, "judge", "responses")
    chosen = balanced(rows, per_class, seed)
    if not chosen:
        counts = {o: sum(str(row.score.value) == o for row in rows) for o in ("right", "wrong")}
        raise Refused(
            f"responses has {counts['right']} consistently right and {counts['wrong']} consistently wrong questions"
            " and no relation that has both; collect more questions, or fewer draws at a lower temperature"
        )
    return Task(
        dataset=MemoryDataset([_sample(row) for row in chosen], name=log.eval.dataset.name),
        solver=capture_given(span, reduce),
        scorer=captured(),
        config=GenerateConfig(max_connections=MOST_CONNECTIONS),
        metadata={"source": log.location, "reduce": reduce, "span": span},
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
        },
    )
