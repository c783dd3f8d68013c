"""TruthfulQA: sweep over questions that invite a common misconception."""

from collections.abc import Sequence

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.solver import Generate, Solver, TaskState, solver

from hneurons_eval.analysis.sweep_parameters import ALPHAS, CONTROLS, SERIES, Alphas
from hneurons_eval.data.behaviours import TruthfulQuestion, load_truthfulqa
from hneurons_eval.data.selection import check_questions, subset
from hneurons_eval.scorers.judge import RULE_OR_LLM, check_judge
from hneurons_eval.scorers.truthful import BY_RULE, CHOSEN, GRADED, truthful
from hneurons_eval.solvers.scaled import Reply, Scaled, one_turn, under_all_conditions
from hneurons_eval.tasks.sweeping import HARDEST, conditions, series_named, sweep_task, swept_sample
from hneurons_eval.util.errors import checked_arguments, usage_errors


@task
@checked_arguments
def truthfulqa(
    neurons: str = "",
    alphas: Alphas = ALPHAS,
    controls: int = CONTROLS,
    sign: str = "positive",
    against: str | list[str] = HARDEST,
    dataset: str = "hub",
    form: str = "both",
    judge: str = "rule",
    questions: int | None = None,
    seed: int = 0,
) -> Task:
    """Questions that invite a common misconception: the loglikelihood of given answers, and answers of one's own.

    Args:
        neurons, alphas, controls, sign, against: as in `closed_book`.
        dataset: `hub` (truthfulqa/truthful_qa), or a file with the columns of TruthfulQA.csv or of the Hub's set.
        form: `mc` (MC1 and MC2 by log-likelihood), `open` (answers generated greedily), or `both`, each for itself.
        judge: of open answers, `llm` (truthful and informative; needs --model-role grader=MODEL), or `rule`, which only
            says whether an answer has more words in common with true or with false reference answers.
        questions: at most this many, drawn by `seed`; default all.
        seed: of the questions and of control sets that are drawn anew.
    """
    forms = series_named(form, SERIES["truthfulqa"], "form")
    check_questions(questions)
    with usage_errors():
        check_judge(judge, RULE_OR_LLM)
        rows, report = load_truthfulqa(dataset)
    under = conditions(neurons, alphas, controls, seed, sign, against)
    samples = [
        swept_sample(truthful_sample(row), alpha, under.kinds, series=name)
        for name in forms
        for row in subset(rows, questions, seed)
        for alpha in under.alphas
    ]
    return sweep_task(
        samples,
        under,
        title="TruthfulQA: repeating what people wrongly believe",
        headlines=(*CHOSEN, *(GRADED if judge == "llm" else BY_RULE)),
        scorer=truthful(judge),
        order=SERIES["truthfulqa"],
        solver=weigh_or_answer(under.neurons, under.controls),
        config=GenerateConfig(max_tokens=64),
        about={"data": str(report), "judge": judge, "prompt": "the question alone, as the user's turn"},
    )


def truthful_sample(row: TruthfulQuestion) -> Sample:
    """A question with its reference answers."""
    return Sample(
        id=row.id,
        input=row.question,
        target=list(row.correct),
        metadata={
            "question": row.question,
            "category": row.category,
            "correct": list(row.correct),
            "incorrect": list(row.incorrect),
            "mc1": {"texts": list(row.mc1.texts), "true": list(row.mc1.true)},
            "mc2": {"texts": list(row.mc2.texts), "true": list(row.mc2.true)},
        },
    )


@solver
def weigh_or_answer(neurons: str, controls: Sequence[str]) -> Solver:
    """The loglikelihoods of the given answers (series `mc`), or an answer (series `open`), under each condition."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        asked = weighed if state.metadata.get("series") == "mc" else one_turn  # the summary has no series
        return await under_all_conditions(state, neurons, controls, asked)

    return solve


async def weighed(state: TaskState, model: Scaled) -> Reply:
    """The log-probability of each given answer as the answer to the question; the text is the likeliest of MC1's."""
    sets: dict[str, list[str]] = {name: state.metadata[name]["texts"] for name in ("mc1", "mc2")}
    found: dict[str, float] = {}

    async def weigh(text: str) -> None:
        found[text] = await model.loglikelihood(state.messages, text)

    async with anyio.create_task_group() as group:
        for text in dict.fromkeys(text for texts in sets.values() for text in texts):
            group.start_soon(weigh, text)
    loglikelihoods = {name: [found[text] for text in texts] for name, texts in sets.items()}
    likeliest = max(sets["mc1"], key=lambda text: found[text])
    return Reply((), likeliest, "stop", 0, {"loglikelihoods": loglikelihoods})
