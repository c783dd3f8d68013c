"""FalseQA: does scaling the neurons make the model go along with false premises?"""

from collections.abc import Sequence

import numpy as np
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig

from hneurons_eval.data.behaviours import FalsePremiseQuestion, load_falseqa
from hneurons_eval.scorers.behaviour import COMPLIANCE, false_premise
from hneurons_eval.scorers.judge import check_judge
from hneurons_eval.tasks.collect import check_questions
from hneurons_eval.tasks.sweeping import ALPHAS, CONTROLS, HARDEST, Alphas, conditions, sweep_task, swept_sample
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
    """Questions with a false premise, answered greedily: compliant is who does not refute it.

    Questions with a true premise are asked beside them, since a model that refutes everything resists nothing.

    Args:
        neurons: a neuron file, a probe directory, or the log of the `probe` task.
        alphas: factors; 1, the plain model, is always among them.
        controls: random sets of each kind of `against`, as large as what is scaled; 39 can show p = .05, 199 p = .01.
        sign: the neurons that are scaled, by their weight in the probe: `positive` (the paper's), `negative` or `both`.
        against: kinds of random sets: `hardest` (contribution-matched; layer-matched without a probe), `all`, or some
            of `uniform`, `layer`, `contribution`, `sd`. The verdict rests on the kind with the greatest p.
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


def some_pairs(rows: Sequence[FalsePremiseQuestion], questions: int, seed: int) -> list[FalsePremiseQuestion]:
    """At most so many rows of either premise, with the twins of a pair kept together as far as they go."""
    order = np.random.default_rng(seed).permutation(len({row.pair or row.id for row in rows}))
    rank = dict(zip(dict.fromkeys(row.pair or row.id for row in rows), order.tolist(), strict=True))
    kept: list[FalsePremiseQuestion] = []
    for premise in (True, False):
        own = sorted((row for row in rows if row.false_premise is premise), key=lambda row: rank[row.pair or row.id])
        kept += own[:questions]
    return kept
