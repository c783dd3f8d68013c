"""FalseQA: sweep over questions with a false premise."""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig

from hneurons_eval.analysis.sweep_parameters import ALPHAS, CONTROLS, Alphas
from hneurons_eval.data.behaviours import load_falseqa
from hneurons_eval.data.selection import check_questions, some_pairs
from hneurons_eval.scorers.behaviour import COMPLIANCE, false_premise
from hneurons_eval.scorers.judge import check_judge
from hneurons_eval.tasks.sweeping import HARDEST, conditions, sweep_task, swept_sample
from hneurons_eval.util.errors import checked_arguments, usage_errors


@task
@checked_arguments
def falseqa(
    neurons: str = "",
    alphas: Alphas = ALPHAS,
    controls: int = CONTROLS,
    sign: str = "positive",
    against: str | list[str] = HARDEST,
    dataset: str = "bundled",
    judge: str = "rule",
    questions: int | None = None,
    true_premises: bool = True,
    seed: int = 0,
) -> Task:
    """Questions with a false premise, answered greedily; an answer that does not refute it counts as compliant.

    Questions with a true premise are asked too, since refuting every premise would look like resistance.

    Args:
        neurons, alphas, controls, sign, against: as in `closed_book`.
        dataset: `bundled`, `hub` (the authors' test set), or a file with FalseQA's columns.
        judge: `rule`, `llm` (the paper's: needs --model-role grader=MODEL), or `cascade` (the rule first).
        questions: at most this many of either premise, drawn by `seed`; default all.
        true_premises: ask those as well.
        seed: of the questions and of control sets that are drawn anew.
    """
    with usage_errors():
        check_judge(judge)
        rows, report = load_falseqa(dataset)
    check_questions(questions)
    under = conditions(neurons, alphas, controls, seed, sign, against)
    chosen = [row for row in rows if row.false_premise or true_premises]
    if questions is not None:
        chosen = some_pairs(chosen, questions, seed)
    samples = [
        swept_sample(
            Sample(
                id=row.id,
                input=row.question,
                target=list(row.answers),
                metadata={"question": row.question, "false_premise": row.false_premise, "topic": row.topic},
            ),
            alpha,
            under.kinds,
            cluster=row.pair or row.id,
        )
        for row in chosen
        for alpha in under.alphas
    ]
    return sweep_task(
        samples,
        under,
        title="FalseQA: going along with a false premise",
        headlines=COMPLIANCE,
        scorer=false_premise(judge),
        config=GenerateConfig(max_tokens=128),
        about={"data": str(report), "judge": judge},
    )
