"""Detection by the probe of another checkpoint, at its own threshold and at a refitted one."""

from typing import Any, cast

from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from hneurons_eval.artifacts.records import AnswerRecord
from hneurons_eval.scorers.detected import calls_of, compared_sets, detected, detection_figures
from hneurons_eval.scorers.once import computed_once


@metric(name="transfer")
def threshold_figures() -> Metric:
    """Accuracy at the probe's threshold and at thresholds chosen on other answers, beside random sets."""
    return computed_once(_threshold_figures)


def _threshold_figures(scores: list[SampleScore]) -> dict[str, float]:
    from hneurons_eval.analysis.transfer import transfer_figures
    from hneurons_eval.probe.baselines import PROBE_SET

    rows = [AnswerRecord.of(score.score.metadata) for score in scores]
    rows = [row for row in rows if row.probability is not None]
    # As many neurons as the probe has.
    return transfer_figures(*calls_of(rows), compared_sets(rows).get(PROBE_SET, (None, {}))[1])


@scorer(metrics=[detection_figures(), threshold_figures()])
def transferred() -> Scorer:
    """C where the probe's call agrees with the label, I where not, N for answers that are not classified."""
    inner: Any = detected()

    async def score(state: TaskState, target: Target) -> Score:
        return cast(Score, await inner(state, target))

    return score
