"""Judge answers of a sweep over alphas, and compare every alpha with the no-op and with random sets."""

from collections import defaultdict
from typing import cast

from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from hneurons_eval.evaluation import intervention
from hneurons_eval.judging import judge_by_rule
from hneurons_eval.nonexistence import judge_nonexistent
from hneurons_eval.scorers.judge import VALUES


@metric(name="intervention")
def intervention_figures() -> Metric:
    """For each alpha accuracy, attempt and hallucination rate; differences to the no-op, paired, beside controls."""

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        verdicts: dict[float, dict[str, str]] = defaultdict(dict)
        controls: dict[float, list[dict[str, str]]] = defaultdict(list)
        for score in scores:
            details = score.score.metadata or {}
            if "alpha" not in details:
                continue
            alpha, item = float(details["alpha"]), str(details["item"])
            verdicts[alpha][item] = str(details["verdict"])
            for number, verdict in enumerate(details["controls"]):
                while len(controls[alpha]) <= number:
                    controls[alpha].append({})
                controls[alpha][number][item] = verdict
        return intervention(verdicts, controls)

    return cast(Metric, compute)


@scorer(metrics=[intervention_figures()])
def swept() -> Scorer:
    """Correct (C), incorrect (I) or not attempted (N) by the rule, for the answer and those of the control sets."""

    async def score(state: TaskState, target: Target) -> Score:
        aliases = [alias for alias in target if alias]
        exists = state.metadata.get("exists", True)

        def judged(answer: str) -> str:
            return judge_by_rule(answer, aliases) if exists else judge_nonexistent(answer)

        verdict = judged(state.output.completion)
        controls = [judged(answer) for answer in state.store.get("controls", [])]
        alpha = state.metadata["alpha"]
        return Score(
            value=VALUES[verdict],
            answer=state.output.completion,
            explanation=f"alpha {alpha:g}: {verdict.replace('_', ' ')}; accepted: {', '.join(aliases[:5])}",
            metadata={"alpha": alpha, "item": state.metadata["item"], "verdict": verdict, "controls": controls},
        )

    return score
