"""Was a hallucinated answer of another checkpoint told by the probe, at its own threshold and at a refitted one."""

from typing import Any, cast

from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from hneurons_eval.artifacts.records import AnswerRecord
from hneurons_eval.scorers.detected import calls_of, compared_sets, detected, detection_figures


@metric(name="transfer")
def threshold_figures() -> Metric:
    """Accuracy at the probe's threshold and at thresholds chosen on other answers, beside random sets."""
    seen: dict[int, dict[str, float]] = {}

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        from hneurons_eval.analysis.transfer import transfer_figures
        from hneurons_eval.probe.baselines import PROBE_SET

        rows = [AnswerRecord.of(score.score.metadata) for score in scores]
        rows = [row for row in rows if row.probability is not None]
        if len(rows) not in seen:
            seen.clear()
            seen[len(rows)] = transfer_figures(
                *calls_of(rows),
                compared_sets(rows).get(PROBE_SET, (None, {}))[1],  # as many neurons as the probe has
            )
        return dict(seen[len(rows)])

    return cast(Metric, compute)


@scorer(metrics=[detection_figures(), threshold_figures()])
def transferred() -> Scorer:
    """C where the probe's call agrees with the label, I where not, N for answers that are not classified."""
    inner: Any = detected()

    async def score(state: TaskState, target: Target) -> Score:
        return cast(Score, await inner(state, target))

    return score
