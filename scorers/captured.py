"""Scorer of `capture`: whether the answer's span was found, and the key of its contributions."""

from collections import Counter

from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from hneurons_eval.analysis.detection import LABELS
from hneurons_eval.artifacts.records import AnswerRecord


@metric(name="coverage")
def span_coverage() -> Metric:
    """Shares of answers with a span, and of spans that are the whole response; answers of each label.

    The share of whole responses is also given for each label: where the two differ much, the end of the span alone
    predicts the label.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        rows = [AnswerRecord.of(score.score.metadata) for score in scores]
        found = [row for row in rows if row.contributions]
        labels = Counter(row.label for row in found)
        whole = Counter(row.label for row in found if row.whole_response)
        return {
            "span_coverage": len(found) / len(rows) if rows else 0.0,
            "captured": len(found),
            "span_missing": len(rows) - len(found),
            "whole_response": whole.total() / len(found) if found else 0.0,
            **{label: labels[label] for label in LABELS},
            **{f"whole_response_{label}": whole[label] / labels[label] for label in LABELS if labels[label]},
        }

    return compute  # pyright: ignore[reportReturnType]


@scorer(metrics=[span_coverage()])
def captured() -> Scorer:
    """1 where contributions were captured, 0 where the answer's span is missing."""

    async def score(state: TaskState, target: Target) -> Score:
        details = (state.output.metadata or {}).get("hneurons", {})
        response = str(state.metadata["response"])
        start, end = details.get("span") or (0, 0)
        marked = f"{response[:start]}⟦{response[start:end]}⟧{response[end:]}" if details.get("span") else "no span"
        return Score(
            value=1 if details.get("contributions") else 0,
            answer=response,
            explanation=f"{state.metadata['label']}: {marked}",
            metadata={
                **details,
                "label": state.metadata["label"],
                "question": state.metadata["question"],
                "aliases": state.metadata.get("aliases", []),
                "relation": state.metadata.get("relation"),
            },
        )

    return score
