"""Stage 1: sample several answers to each question and judge them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.viewer import TaskSamplesColumn, TaskSamplesView, ViewerConfig

from hneurons_eval.data.questions import ANSWER_ONLY, Question, load_questions, split_questions
from hneurons_eval.engine import MAX_CONNECTIONS
from hneurons_eval.scorers.judge import check_judge, consistency
from hneurons_eval.scorers.judge import judge as judge_answers
from hneurons_eval.solvers.generation import draw
from hneurons_eval.util.errors import UsageError, checked_arguments, usage_errors


@dataclass(frozen=True)
class Preset:
    """How to sample.

    Attributes:
        draws: answers to each question.
        temperature, top_k, top_p, max_tokens: sampling; None leaves the option off.
    """

    draws: int
    temperature: float
    top_k: int | None
    top_p: float | None
    max_tokens: int

    def config(self) -> GenerateConfig:
        return GenerateConfig(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            max_connections=MAX_CONNECTIONS,
        )


PRESETS = {
    # Gao et al. 2025, section 2.1: 10 draws, temperature 1.0, top_k 50, top_p 0.9, 50 tokens.
    "paper": Preset(10, 1.0, 50, 0.9, 50),
    # A small model is consistent about more questions when it is sampled cooler.
    "quick": Preset(5, 0.3, None, None, 24),
}


def preset_named(name: str) -> Preset:
    """A preset.

    Raises:
        UsageError: an unknown name.
    """
    if name not in PRESETS:
        raise UsageError(f"preset should be one of {', '.join(PRESETS)}, found {name!r}")
    return PRESETS[name]


def question_sample(question: Question, sample_id: str | None = None, **metadata: object) -> Sample:
    """A question as an Inspect sample, with the paper's suffix that asks for the answer only."""
    return Sample(
        id=sample_id or question.id,
        input=question.question + ANSWER_ONLY,
        target=list(question.aliases),
        metadata={
            "question": question.question,
            "relation": question.relation,
            **({} if question.exists else {"exists": False}),
            **metadata,
        },
    )


def questions_for(dataset: str, part: str = "all", split: str | None = None) -> list[Question]:
    """The questions of a set, or of its training or test part.

    Raises:
        UsageError: no such set, a file that cannot be read, questions without answers, or an unknown part.
    """
    with usage_errors():
        questions = load_questions(dataset, split=split)
        if part == "all":
            return questions
        train, test = split_questions(questions)
        if part not in ("train", "test"):
            raise UsageError(f"part should be all, train or test, found {part!r}")
        return train if part == "train" else test


def check_questions(number: int | None) -> None:
    """Refuse a limit on questions that leaves none.

    Raises:
        UsageError: it is below 1.
    """
    if number is not None and number < 1:
        raise UsageError(f"questions should be at least 1, found {number}")


def spread(questions: Sequence[Question], limit: int, seed: int) -> list[Question]:
    """At most `limit` questions, drawn evenly over relations."""
    rng = np.random.default_rng(seed)
    order = [questions[i] for i in rng.permutation(len(questions))]
    turn: dict[str | None, int] = {}
    ranked = []
    for place, question in enumerate(order):
        turn[question.relation] = turn.get(question.relation, 0) + 1
        ranked.append((turn[question.relation], place))
    return [order[place] for _, place in sorted(ranked)[:limit]]


@task
@checked_arguments
def collect(
    dataset: str = "facts",
    draws: int | None = None,
    judge: str = "rule",
    preset: str = "paper",
    split: str | None = None,
    part: str = "all",
    seed: int = 0,
) -> Task:
    """Sample each question several times and judge every answer; the log is the input of `capture`.

    Works with every Inspect provider. Temperature and the like are the preset's unless given as Inspect's own
    options (--temperature, --top-p, --top-k, --max-tokens).

    Args:
        dataset: `facts` (bundled), `triviaqa`, `nq_open`, `bioasq`, `simpleqa_verified`, `nonexist`, or a
            .jsonl, .json, .csv or .parquet file in the schema of one of them.
        draws: answers to each question; default the preset's (paper: 10).
        judge: `rule`, `llm` (needs --model-role grader=MODEL) or `cascade` (the rule first).
        preset: `paper` (the paper's sampling) or `quick` (5 draws at temperature 0.3).
        split: of a Hub set.
        part: `all`, or `train` or `test`: whole relations (else questions) kept apart, about four to one.
        seed: another number gives other draws.
    """
    chosen = preset_named(preset)
    number = chosen.draws if draws is None else draws
    if number < 1:
        raise UsageError(f"draws should be at least 1, found {number}")
    with usage_errors():
        check_judge(judge)
    return Task(
        dataset=MemoryDataset([question_sample(q) for q in questions_for(dataset, part, split)], name=dataset),
        solver=draw(seed, number),
        scorer=judge_answers(judge),
        epochs=Epochs(number, consistency()),
        config=chosen.config(),
        viewer=ViewerConfig(
            task_samples_view=TaskSamplesView(
                name="Draws",
                columns=[
                    TaskSamplesColumn(id=column)
                    for column in ("sampleId", "epoch", "input", "target", "answer", "tokens")
                ]
                + [TaskSamplesColumn.score("judge")],
            )
        ),
    )
