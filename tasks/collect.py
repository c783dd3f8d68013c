"""Stage 1: sample several answers to each question and judge them."""

from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.viewer import TaskSamplesColumn, TaskSamplesView, ViewerConfig

from hneurons_eval.data.presets import Preset, preset_named
from hneurons_eval.data.questions import ANSWER_ONLY, Question
from hneurons_eval.data.selection import check_questions, questions_for, spread
from hneurons_eval.engine import MAX_CONNECTIONS
from hneurons_eval.scorers.judge import check_judge, consistency
from hneurons_eval.scorers.judge import judge as judge_answers
from hneurons_eval.solvers.generation import draw
from hneurons_eval.util.errors import UsageError, checked_arguments, usage_errors


def sampling_config(preset: Preset) -> GenerateConfig:
    """How answers are sampled, as Inspect takes it."""
    return GenerateConfig(
        temperature=preset.temperature,
        top_k=preset.top_k,
        top_p=preset.top_p,
        max_tokens=preset.max_tokens,
        max_connections=MAX_CONNECTIONS,
    )


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


@task
@checked_arguments
def collect(
    dataset: str = "facts",
    draws: int | None = None,
    judge: str = "rule",
    preset: str = "paper",
    questions: int | None = None,
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
        questions: at most this many, drawn evenly over relations by `seed`; default all. Inspect's own `--limit` takes
            the first ones, which are of one relation.
        split: of a Hub set.
        part: `all`, or `train` or `test`: whole relations (else questions) kept apart, about four to one.
        seed: another number gives other answers.
    """
    chosen = preset_named(preset)
    number = chosen.draws if draws is None else draws
    if number < 1:
        raise UsageError(f"draws should be at least 1, found {number}")
    check_questions(questions)
    with usage_errors():
        check_judge(judge)
    asked = questions_for(dataset, part, split)
    if questions is not None:
        asked = spread(asked, questions, seed)
    columns = ("sampleId", "epoch", "input", "target", "answer", "tokens")
    return Task(
        dataset=MemoryDataset([question_sample(question) for question in asked], name=dataset),
        solver=draw(seed, number),
        scorer=judge_answers(judge),
        epochs=Epochs(number, consistency()),
        config=sampling_config(chosen),
        viewer=ViewerConfig(
            task_samples_view=TaskSamplesView(
                name="Samples",
                columns=[*(TaskSamplesColumn(id=column) for column in columns), TaskSamplesColumn.score("judge")],
            )
        ),
    )
