"""Scorer of `collect`: verdicts on answers, and the consistency of all answers to a question."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

from inspect_ai.scorer import (
    CORRECT,
    INCORRECT,
    NOANSWER,
    Metric,
    SampleScore,
    Score,
    Scorer,
    ScoreReducer,
    Target,
    metric,
    score_reducer,
    scorer,
)
from inspect_ai.solver import TaskState

from hneurons_eval.analysis.bootstrap import wilson_interval
from hneurons_eval.analysis.metrics import headline_first
from hneurons_eval.judging.grader import GraderVerdicts, grader
from hneurons_eval.judging.nonexistent import judge_nonexistent
from hneurons_eval.judging.prompts import ANSWER_PROMPT
from hneurons_eval.judging.rule import judge_by_rule

Judge = Literal["rule", "llm", "cascade"]
JUDGES: tuple[Judge, ...] = ("rule", "llm", "cascade")
RULE_OR_LLM: tuple[Judge, ...] = ("rule", "llm")
"""Where the rule answers another question than the grader, so that neither can stand in for the other."""
VALUES = {"correct": CORRECT, "incorrect": INCORRECT, "not_attempted": NOANSWER}
VERDICTS = {value: verdict for verdict, value in VALUES.items()}
OUTCOMES = ("right", "wrong", "mixed", "refused", "unparsed")


def judge_named(by: str, among: Sequence[Judge] = JUDGES) -> Judge:
    """A judge's name.

    Raises:
        ValueError: none of those that there are.
    """
    if by not in among:
        names = " or ".join(among) if len(among) == 2 else f"one of {', '.join(among)}"
        raise ValueError(f"judge should be {names}, found {by!r}")
    return cast(Judge, by)


def check_judge(by: str, among: Sequence[Judge] = JUDGES) -> None:
    """Refuse a judge that does not exist or lacks what it needs, before a task's work begins.

    Raises:
        ValueError: an unknown one, or one that needs a grader where none is bound to the role.
    """
    if judge_named(by, among) != "rule":
        grader()


@metric(name="yield")
def question_yield() -> Metric:
    """Questions that are consistently right or wrong, mixed or refused: counts, and shares with intervals.

    `unparsed` counts questions, `unparsed_draws` their answers without a verdict.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:  # pyright: ignore
        counted = [score.score for score in scores if score.score.value in OUTCOMES]
        counts = Counter(str(score.value) for score in counted)
        total = sum(counts.values())
        found: dict[str, float] = {"questions": total, **{outcome: counts[outcome] for outcome in OUTCOMES}}
        found["unparsed_draws"] = sum((score.metadata or {}).get("verdicts", []).count("unparsed") for score in counted)
        if total:
            for outcome in ("right", "wrong"):
                share = wilson_interval(counts[outcome], total)
                found |= {
                    f"{outcome}_share": share.estimate,
                    f"{outcome}_share_low": share.low,
                    f"{outcome}_share_high": share.high,
                }
        return headline_first(found, "right_share")

    return cast(Metric, compute)


@metric(name="draws", scores="unreduced")
def draw_rates() -> Metric:
    """Number of answers with a verdict, and the shares of correct, incorrect and not attempted ones among them.

    Inspect passes metrics no scores without a value: answers without a verdict are `unparsed_draws` in the yield.
    """

    def compute(scores: list[SampleScore]) -> dict[str, float]:
        counts = Counter(VERDICTS.get(str(score.score.value)) for score in scores)
        judged = sum(counts[verdict] for verdict in VALUES)
        return {"draws": judged, **{verdict: counts[verdict] / judged if judged else 0.0 for verdict in VALUES}}

    return cast(Metric, compute)


class Judged(NamedTuple):
    """A verdict, its source (`rule` or `llm`), and the grader and its reply where one was asked."""

    verdict: str
    by: str
    grader: str | None = None
    said: str = ""


class AnswerJudge:
    """Verdicts on answers, by the rule, by the grader, or by the one and then the other; see `judge`.

    Raises:
        ValueError: an unknown judge.
    """

    def __init__(self, by: str) -> None:
        self._by = judge_named(by)  # `inspect score` binds the grader only after it has made the scorer
        self._graded = GraderVerdicts(ANSWER_PROMPT)

    async def __call__(self, question: str, response: str, aliases: Sequence[str], exists: bool = True) -> Judged:
        """The verdict on one answer, or `unparsed`."""
        if not exists:
            return Judged(judge_nonexistent(response), "rule")
        if self._by != "llm" or not response.strip():
            verdict = judge_by_rule(response, aliases)
            if verdict != "incorrect" or self._by == "rule":
                return Judged(verdict, "rule")
        answers = json.dumps(list(aliases), ensure_ascii=False)
        parts = {"question": question, "accepted answers": answers, "answer": response}
        verdict, said, asked = await self._graded(parts)
        return Judged(verdict, "llm", asked, said)


def accepted(aliases: Sequence[str]) -> str:
    """The first accepted answers, for explanations."""
    return f"accepted: {', '.join(aliases[:5])}" if aliases else "asked about something invented"


@scorer(metrics=[question_yield(), draw_rates()])
def judge(by: str = "rule") -> Scorer:
    """Judge each sampled answer: correct (C), incorrect (I) or not attempted (N).

    An answer without a verdict has no score and counts as unparsed: the grader's reply is none of the three, or it
    fails after Inspect's own retries. The answer stays in the log; judge it again with
    `inspect score LOG --scorer hneurons_eval/judge -S by=... --model-role grader=PROVIDER/MODEL`.

    Questions on something invented have no accepted answers; their answers are judged by the rule of
    `hneurons_eval.judging.nonexistent` whatever `by` says.

    Args:
        by: `rule` (a normalised alias stands in the answer), `llm` (the model bound to the role `grader`), or
            `cascade` (the rule, then the LLM for what the rule calls incorrect).
    """
    decide = AnswerJudge(by)

    async def score(state: TaskState, target: Target) -> Score:
        response = state.output.completion
        aliases = [alias for alias in target if alias]
        question = str(state.metadata.get("question") or state.input_text)
        exists = state.metadata.get("exists", True)
        verdict, decided, asked, said = await decide(question, response, aliases, exists)
        details: dict[str, Any] = {
            "verdict": verdict,
            "by": by,
            "judge": decided,
            "grader": asked,
            "question": question,
            "aliases": aliases,
            "relation": state.metadata.get("relation"),
            "prompt": [{"role": m.role, "content": m.text} for m in state.messages if m.role != "assistant"],
        }
        if verdict == "unparsed":
            return Score.unscored(
                reason="grader_failed",
                answer=response,
                explanation=f"no verdict by {asked}: {said[:500]}",
                metadata=details,
            )
        explanation = f"{verdict.replace('_', ' ')} by {decided}; {accepted(aliases if exists else ())}"
        return Score(value=VALUES[verdict], answer=response, explanation=explanation, metadata=details)

    return score


# --- all answers to a question ---------------------------------------------------------------------------


@score_reducer
def consistency() -> ScoreReducer:
    """Consistency of the sampled answers to one question.

    `right`: all correct. `wrong`: all incorrect. `mixed`: some correct. `refused`: none correct, some
    not attempted. `unparsed`: a verdict is missing, so that consistency cannot be known.
    The reduced score carries the verdicts and the most frequent answer (of equals the first one).
    """

    def reduce(scores: list[Score]) -> Score:
        verdicts = [VERDICTS.get(str(score.value), "unparsed") for score in scores]
        if "unparsed" in verdicts:
            outcome = "unparsed"
        elif set(verdicts) == {"correct"}:
            outcome = "right"
        elif set(verdicts) == {"incorrect"}:
            outcome = "wrong"
        else:
            outcome = "mixed" if "correct" in verdicts else "refused"
        answers = Counter(score.answer or "" for score in scores)
        representative = answers.most_common(1)[0][0] if answers else ""
        return Score(
            value=outcome,
            answer=representative,
            explanation=f"{len(scores)} draws: {dict(Counter(verdicts))}",
            metadata={
                **(scores[0].metadata or {}),
                "verdicts": verdicts,
                "draws": len(scores),
                "distinct": len(answers),
            },
        )

    return reduce
