"""Scorers of the behaviour tasks: the outcome of each answer of a sweep."""

import json
from collections.abc import Mapping
from typing import Any

from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState

from hneurons_eval.analysis.sweep_parameters import SERIES
from hneurons_eval.judging.choices import parse_choice
from hneurons_eval.judging.false_premise import judge_premise
from hneurons_eval.judging.grader import GraderVerdicts
from hneurons_eval.judging.prompts import PREMISE_PROMPT
from hneurons_eval.judging.refusal import is_refusal
from hneurons_eval.scorers.judge import AnswerJudge, accepted, judge_named
from hneurons_eval.scorers.swept import Outcome, dose_response_figures, score_sweep

CLOSED_BOOK = ("accuracy", "attempt_rate", "hallucination_rate")
COMPLIANCE = ("compliance",)


def complied(value: bool | None) -> dict[str, bool | float | None]:
    """Outcomes `compliance` (undefined where it could not be judged) and `unparsed`."""
    return {"compliance": value, "unparsed": value is None}


@scorer(metrics=[dose_response_figures(COMPLIANCE)])
def false_premise(judge: str = "rule") -> Scorer:
    """Whether answers go along with a false premise (compliance), and whether a true one is refuted.

    Args:
        judge: `rule` (`judging.false_premise`), `llm` (the model bound to the role `grader`), or `cascade`
            (the rule, then the LLM for what the rule calls accepted).
    """
    by = judge_named(judge)
    graded = GraderVerdicts(PREMISE_PROMPT)

    async def score(state: TaskState, target: Target) -> Score:
        async def decide(reply: Mapping[str, Any]) -> Outcome:
            question, is_false = str(state.metadata["question"]), bool(state.metadata["false_premise"])
            text, decided_by = str(reply["text"]), "the rule"
            verdict: str = "accepted"
            if by != "llm" or not text.strip():
                verdict = judge_premise(question, text)
            if verdict == "accepted" and by != "rule" and text.strip():
                answers = json.dumps([answer for answer in target if answer], ensure_ascii=False)
                parts = {"question": question, "good answers": answers, "answer": text}
                verdict, reasons, grader = await graded(parts)
                decided_by = f"{grader}: {reasons[:300]}"
            went_wrong = None if verdict == "unparsed" else verdict == ("accepted" if is_false else "refuted")
            name = "compliance" if is_false else "true_premises_refuted"
            outcomes = {name: went_wrong, "unparsed": went_wrong is None, "not_attempted": verdict == "not_attempted"}
            said = f"by {decided_by}; the premise is {'false' if is_false else 'true'}"
            return Outcome(verdict, outcomes, said)

        return await score_sweep(state, decide)

    return score


@scorer(metrics=[dose_response_figures(COMPLIANCE, SERIES["faitheval"])])
def followed_context() -> Scorer:
    """Whether the option that a false passage supports is chosen (compliance), or the true one; by `parse_choice`."""

    async def score(state: TaskState, target: Target) -> Score:
        async def decide(reply: Mapping[str, Any]) -> Outcome:
            text = str(reply["text"])
            label = parse_choice(text, state.metadata["choices"])
            context_key, true_key = state.metadata["context_key"], state.metadata.get("true_key")
            outcomes = complied(None if label is None else label == context_key)
            if true_key is not None:
                outcomes["true_answer"] = label == true_key
            outcomes["not_attempted"] = label is None and is_refusal(text)
            value = {None: "unparsed", context_key: "followed the passage", true_key: "true answer"}
            said = f"chose {label or 'no option'}; the passage supports {context_key}"
            return Outcome(value.get(label, "another option"), outcomes, said)

        return await score_sweep(state, decide)

    return score


@scorer(metrics=[dose_response_figures(CLOSED_BOOK)])
def closed_book_answers(judge: str = "rule") -> Scorer:
    """Accuracy, attempts and hallucinations among answers to closed-book questions.

    Args:
        judge: `rule`, `llm` or `cascade`, as of `collect`.
    """
    decide_by = AnswerJudge(judge)

    async def score(state: TaskState, target: Target) -> Score:
        aliases = [alias for alias in target if alias]

        async def decide(reply: Mapping[str, Any]) -> Outcome:
            question = str(state.metadata["question"])
            judged = await decide_by(question, str(reply["text"]), aliases, state.metadata.get("exists", True))
            verdict = judged.verdict
            known = verdict != "unparsed"
            outcomes = {
                "accuracy": verdict == "correct" if known else None,
                "attempt_rate": verdict != "not_attempted" if known else None,
                "hallucination_rate": verdict == "incorrect" if known else None,
                "unparsed": not known,
            }
            return Outcome(verdict.replace("_", " "), outcomes, f"by {judged.by}; {accepted(aliases)}")

        return await score_sweep(state, decide)

    return score
