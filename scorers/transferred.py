"""Was a hallucinated answer of another checkpoint told by the probe, at its own threshold and at a refitted one."""

from typing import Any, cast

from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from hneurons_eval.analysis.detection import LABELS
from hneurons_eval.data.questions import normalise_question
from hneurons_eval.scorers.detected import compared_sets, detected, detection_figures
from hneurons_eval.scorers.figures import classified, kept_figures


@metric(name="transfer")
def threshold_figures() -> Metric:
    """Accuracy at the probe's threshold and at thresholds chosen on other answers, beside random sets."""

    def figures(scores: list[SampleScore]) -> dict[str, float]:
        from hneurons_eval.analysis.transfer import transfer_figures
        from hneurons_eval.probe.baselines import PROBE_SET

        rows = classified(scores)
        return transfer_figures(
            [LABELS[row["label"]] for row in rows],
            [row["probability"] for row in rows],
            [row["prediction"] for row in rows],
            [normalise_question(row["question"]) for row in rows],
            compared_sets(rows).get(PROBE_SET, (None, {}))[1],  # as many neurons as the probe has
        )

    return kept_figures(figures, lambda scores: len(classified(scores)))


@scorer(metrics=[detection_figures(), threshold_figures()])
def transferred() -> Scorer:
    """C where the probe's call agrees with the label, I where not, N for answers that are not classified."""
    inner: Any = detected()

    async def score(state: TaskState, target: Target) -> Score:
        return cast(Score, await inner(state, target))

    return score
