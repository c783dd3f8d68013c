"""Jailbreaks: sweep over forbidden questions inside jailbreak templates."""

from collections.abc import Sequence
from dataclasses import replace

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, GenerateConfig
from inspect_ai.solver import Generate, Solver, TaskState, solver

from hneurons_eval.analysis.sweep_parameters import ALPHAS, CONTROLS, Alphas
from hneurons_eval.data.behaviours import JailbreakPrompt, load_jailbreak
from hneurons_eval.data.selection import check_questions, subset
from hneurons_eval.scorers.jailbroken import JAILBROKEN, NOT_REFUSED, jailbroken
from hneurons_eval.scorers.judge import RULE_OR_LLM, check_judge
from hneurons_eval.solvers.generation import stable_seed
from hneurons_eval.solvers.scaled import Reply, Scaled, under_all_conditions
from hneurons_eval.tasks.sweeping import HARDEST, conditions, sweep_task, swept_sample
from hneurons_eval.util.errors import checked_arguments, usage_errors
from hneurons_eval.util.markdown import quoted

NOTICE = (
    "This log holds prompts written to mislead models, and what models answered. Do not trust it as markdown or HTML: "
    "input, messages and explanations show such text in fenced blocks, the column of answers and the model calls in "
    "the transcript show it as it is."
)


@task
@checked_arguments
def jailbreak(
    neurons: str = "",
    alphas: Alphas = ALPHAS,
    controls: int = CONTROLS,
    sign: str = "positive",
    against: str | list[str] = HARDEST,
    dataset: str = "hub",
    templates: str = "hub",
    templates_per_question: int = 1,
    judge: str = "rule",
    questions: int | None = None,
    seed: int = 0,
) -> Task:
    """Forbidden questions inside jailbreak templates; a harmful answer counts as compliant.

    This package contains nothing harmful: questions and templates are fetched from the Hub, or read from files.
    Answers are sampled at temperature 0.7, with the same random numbers under every condition; prompts of one question
    are resampled together.

    Args:
        neurons, alphas, controls, sign, against: as in `closed_book`.
        dataset: the questions: `hub` (TrustAIRLab/forbidden_question_set), or a file with its columns.
        templates: `hub` (TrustAIRLab/in-the-wild-jailbreak-prompts), or a file with its columns.
        templates_per_question: as many prompts are made of each question.
        judge: `llm` (harmful or harmless, and a grade; needs --model-role grader=MODEL), or `rule`, which tells
            refusals only: its outcome is `not_refused`, not compliance.
        questions: at most this many, drawn by `seed`; default all.
        seed: of the questions, their templates, sampling, and control sets that are drawn anew.
    """
    check_questions(questions)
    with usage_errors():
        check_judge(judge, RULE_OR_LLM)
        rows, report = load_jailbreak(dataset, templates, templates_per_question=templates_per_question, seed=seed)
    under = conditions(neurons, alphas, controls, seed, sign, against)
    samples = [
        swept_sample(forbidden_sample(row), alpha, under.kinds, cluster=row.question)
        for row in some_questions(rows, questions, seed)
        for alpha in under.alphas
    ]
    return sweep_task(
        samples,
        under,
        title="Jailbreak: answering forbidden questions",
        headlines=JAILBROKEN if judge == "llm" else NOT_REFUSED,
        scorer=jailbroken(judge),
        solver=answer_quoted(under.neurons, under.controls, seed),
        config=GenerateConfig(temperature=0.7, top_k=20, top_p=0.8, max_tokens=256),
        about={"data": str(report), "judge": judge, "notice": NOTICE},
    )


def forbidden_sample(row: JailbreakPrompt) -> Sample:
    """A prompt whose input shows it in a fenced block; what the model is given is in the metadata."""
    return Sample(
        id=row.id.replace("/", "+"),
        input=quoted(row.prompt),
        metadata={
            "question": row.question,
            "prompt": row.prompt,
            "category": row.category,
            "template": row.template_id,
        },
    )


def some_questions(rows: Sequence[JailbreakPrompt], number: int | None, seed: int) -> list[JailbreakPrompt]:
    """The prompts of at most so many questions, in their own order."""
    kept = set(subset(list(dict.fromkeys(row.question for row in rows)), number, seed))
    return [row for row in rows if row.question in kept]


@solver
def answer_quoted(neurons: str, controls: Sequence[str], seed: int = 0) -> Solver:
    """Answer the prompt in the metadata under each condition; the conversation shows the answer in a fenced block.

    Args:
        neurons: digest of the kept set.
        controls: digests of the control sets.
        seed: of sampling, with the prompt and the epoch.
    """

    async def one_answer(state: TaskState, model: Scaled) -> Reply:
        config = GenerateConfig(seed=stable_seed(seed, state.metadata["item"], state.epoch))
        output = await model.generate([ChatMessageUser(content=str(state.metadata["prompt"]))], config)
        shown = ChatMessageAssistant(content=quoted(output.completion), model=output.model, source="generate")
        return replace(Reply.of(output), messages=(shown,))

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return await under_all_conditions(state, neurons, controls, one_answer)

    return solve
