"""Hallucination risk of the answers of any task, and how well it separates wrong from right ones."""

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import TaskState

from hneurons_eval.analysis.metrics import headline_first
from hneurons_eval.analysis.selective_prediction import ScoredAnswer, risk_figures, score_of
from hneurons_eval.engine.risk_requests import DECISIONS, answer_of, find_risk_probe, risk_of_answer
from hneurons_eval.scorers.once import computed_once
from hneurons_eval.util.errors import UsageError
from hneurons_eval.util.markdown import marked, picture, quoted

OWN = "hallucination_risk"


def task_score(scores: Mapping[str, Score], against: str) -> dict[str, Any]:
    """Score of the task's own scorer: `task_scorer`, `task_score` from 0 to 1 or None, `refused`.

    Args:
        scores: of the sample so far, by scorer.
        against: the scorer to take, `scorer/key` for one value of a dict; empty: the first with a value that is
            correct, incorrect, partial, no answer, true, false, or a number from 0 to 1.

    Raises:
        UsageError: `against` names a scorer that has not scored.
    """
    name, _, key = against.partition("/")
    if against and name not in scores:
        found = ", ".join(scores) or "none"
        raise UsageError(f"against={against}: {name} has not scored (found: {found}); put {OWN} behind it")
    chosen = [name] if against else [one for one in scores if not one.startswith(OWN)]
    for one in chosen:
        value = scores[one].value
        if key:
            if not isinstance(value, Mapping) or key not in value:
                raise UsageError(f"against={against}: the score of {one} has no {key}, it is {value!r}")
            value = value[key]
        number, refused = score_of(value)
        if number is not None or refused:
            return {"task_scorer": against or one, "task_score": number, "refused": refused}
    return {"task_scorer": None, "task_score": None, "refused": False}


@metric(name="risk", scores="unreduced")
def risk_metrics() -> Metric:
    """Mean risk, and how well it separates answers that the task calls wrong; see `selective_prediction.risk_figures`.

    Answers without a risk have no score: Inspect counts them as unscored, with the reason of each.
    """

    def figures(scores: list[SampleScore]) -> dict[str, float]:
        answers = [
            ScoredAnswer.of(score.sample_id, score.score.metadata)
            for score in scores
            if score.score.metadata and score.score.metadata.get("probability") is not None
        ]
        return headline_first(risk_figures(answers), "auroc", "mean_risk")

    return computed_once(figures)


@scorer(metrics=[risk_metrics()])
def hallucination_risk(probe: str = "", span: str = "rule", against: str = "", strip: bool = True) -> Scorer:
    """The probability that the answer is hallucinated, for any task that is run with an `hneurons/` model.

    The risk is taken while the answer is generated if the model has the probe (`-M risk=DIRECTORY`), otherwise by one
    more pass over prompt and answer. Of a conversation the last answer is judged. To compare the risk with the task's
    own score, put this scorer behind the task's scorer.

    Args:
        probe: a probe directory, the log of the `probe` task or a directory of logs, or a Hub id.
        span: where the answer is: `rule`, or `response` for all of it.
        against: the scorer of the task that the risk is compared with (`scorer/key` for one value of a dict);
            default the first that says right or wrong.
        strip: draw the risk of each token into the explanation.
    """
    from hneurons_eval.engine.risk import SPANS

    if span not in SPANS:
        raise UsageError(f"span should be {' or '.join(SPANS)}, found {span!r}")
    judge = find_risk_probe(probe)

    async def score(state: TaskState, target: Target) -> Score:
        decisions = state.store.get(DECISIONS, [])
        decision: dict[str, Any] = dict(decisions[-1]) if decisions else {}
        _, text, _ = answer_of(state.messages, state.output)
        if decision.get("done") == "abstained":
            # The reply in its place is no answer: the risk is that of the withheld answer.
            found, text = dict(decision["risk"]), str(decision["answer"])
        else:
            found = await risk_of_answer(state.messages, state.output, judge, span)
        details = found | task_score(state.scores or {}, against)
        if decision:
            details |= {key: decision[key] for key in ("done", "answer", "again") if key in decision}
            details["first_risk"] = decision["risk"].get("probability")
        if found.get("probability") is None:
            reason = str(found["skipped"])
            return Score.unscored(
                reason=reason, answer=text, explanation=f"no risk: {reason}\n\n{quoted(text)}", metadata=details
            )
        explanation = await anyio.to_thread.run_sync(explained, text, found, decision, strip)
        details.pop("tokens", None)
        return Score(value=found["probability"], answer=text, explanation=explanation, metadata=details)

    return score


def explained(text: str, found: Mapping[str, Any], decision: Mapping[str, Any], strip: bool) -> str:
    """Markdown: the risk, the solver's decision, the answer with its span marked, and the risk of each token."""
    above = "above" if found["probability"] > found["threshold"] else "not above"
    parts = [
        f"**Probability of hallucination {found['probability']:.2f}**, {above} the threshold {found['threshold']:.2f}"
    ]
    if decision.get("done") == "abstained":
        parts.append("The solver withheld this answer and abstained:")
    elif decision.get("done") == "answered again":
        before = decision["risk"]["probability"]
        parts.append(
            f"The first answer had {before:.2f}; with the neurons suppressed the model answered again. First answer:"
        )
        parts += [quoted(str(decision["answer"])), "Second answer:"]
    whole = found.get("characters") == len(text)  # a solver may have put other words in its place
    parts.append(quoted(marked(text, found.get("span") if whole else None)))
    if strip and whole and found.get("tokens"):
        from hneurons_eval.report.token_heat_map import token_heat_map

        png = token_heat_map(text, [tuple(token) for token in found["tokens"]], found.get("span"))
        parts.append(picture(png, "risk of each token, blue faithful to red hallucinated; the answer is underlined"))
    return "\n\n".join(parts)
