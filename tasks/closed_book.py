"""Sweep over closed-book questions: accuracy, attempts and hallucinations with the neurons scaled."""

from inspect_ai import Task, task
from inspect_ai.model import GenerateConfig

from hneurons_eval.analysis.sweep_parameters import ALPHAS, CONTROLS, Alphas
from hneurons_eval.data.selection import check_questions, questions_for, spread
from hneurons_eval.scorers.behaviour import CLOSED_BOOK, closed_book_answers
from hneurons_eval.scorers.judge import check_judge
from hneurons_eval.tasks.collect import question_sample
from hneurons_eval.tasks.detect import named_sets, set_label
from hneurons_eval.tasks.sweeping import HARDEST, conditions, sweep_task, swept_sample
from hneurons_eval.util.errors import checked_arguments, usage_errors


@task
@checked_arguments
def closed_book(
    neurons: str = "",
    alphas: Alphas = ALPHAS,
    controls: int = CONTROLS,
    sign: str = "positive",
    against: str | list[str] = HARDEST,
    dataset: str | list[str] = "facts",
    judge: str = "rule",
    questions: int = 200,
    split: str | None = None,
    part: str = "all",
    seed: int = 0,
) -> Task:
    """Answer closed-book questions with the neurons scaled, greedily, beside control sets of equal size.

    A sample is a question at one alpha (`question@alpha`); the control sets answer within it, so that all conditions
    share one batch and one log. Alpha 1 is the baseline: the model as it is.

    Args:
        neurons: a neuron file, probe directory, log of the `probe` task or directory of logs, digest, or Hub id.
        alphas: factors of the neurons; 1, the baseline, is always among them.
        controls: random sets of each kind of `against`, of equal size; 39 can show p = .05, 199 p = .01, 0 shows none.
        sign: the neurons that are scaled, by their weight in the probe: `positive` (the paper's), `negative` or `both`.
        against: kinds of random sets: `hardest` (contribution-matched; layer-matched without a probe), `all`, or some
            of `uniform`, `layer`, `contribution`, `sd`. The verdict rests on the kind with the greatest p.
        dataset: as in `collect`; several, separated by commas, are reported each for itself in one log.
        judge: `rule`, `llm` or `cascade`, as in `collect`.
        questions: at most this many of each set, drawn evenly over relations.
        split: of a Hub set.
        part: `all`, `train` or `test`, as in `collect`.
        seed: of the questions and of control sets that are drawn anew.
    """
    with usage_errors():
        check_judge(judge)
    check_questions(questions)
    under = conditions(neurons, alphas, controls, seed, sign, against)
    names = named_sets(dataset)
    samples = [
        swept_sample(question_sample(question), alpha, under.kinds, set_label(name) if len(names) > 1 else "")
        for name in names
        for question in spread(questions_for(name, part, split), questions, seed)
        for alpha in under.alphas
    ]
    return sweep_task(
        samples,
        under,
        title=f"Closed-book answers to {', '.join(map(set_label, names))}",
        headlines=CLOSED_BOOK,
        scorer=closed_book_answers(judge),
        config=GenerateConfig(max_tokens=24),
    )
