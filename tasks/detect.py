"""Stage 4: fresh answers to questions the probe has not seen; is each hallucinated?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.solver import Generate, Solver, TaskState, solver

from hneurons_eval.artifacts import load_contributions
from hneurons_eval.questions import normalise_question
from hneurons_eval.refusals import Refused, refusing
from hneurons_eval.scorers.detected import detected
from hneurons_eval.scorers.judge import VERDICTS, check_judge
from hneurons_eval.scorers.judge import judge as judge_answers
from hneurons_eval.solvers.capture import answer_and_capture
from hneurons_eval.tasks.collect import preset_named, question_sample, questions_for
from hneurons_eval.tasks.probe_source import probe_from
from hneurons_eval.tasks.stage_logs import check_hneurons_model

if TYPE_CHECKING:
    from hneurons_eval.probe import Probe

LABEL_OF = {"correct": "faithful", "incorrect": "hallucinated"}


@task
def detect(
    probe: str = "",
    dataset: str = "facts",
    judge: str = "rule",
    preset: str = "paper",
    split: str | None = None,
    part: str = "all",
    seed: int = 1,
) -> Task:
    """One answer to each question, and the probability that it is hallucinated.

    Questions that the probe was trained on are left out. Answers that are not attempted are neither faithful nor
    hallucinated: they are counted and not classified.

    Args:
        probe: the log of the `probe` task, or a probe directory.
        dataset: as in `collect`.
        judge: `rule`, `llm` or `cascade`: what the detector's calls are compared with.
        preset: sampling, as in `collect` (one answer a question).
        split: of a Hub set.
        part: `all`, `train` or `test`, as in `collect`.
        seed: of the answers.
    """
    check_hneurons_model()
    chosen = preset_named(preset)
    with refusing():
        check_judge(judge)
    source = probe_from(probe)
    trained = set(source.probe.metadata.get("training_questions", ()))
    questions = questions_for(dataset, part, split)
    fresh = [question for question in questions if normalise_question(question.question) not in trained]
    if not fresh:
        raise Refused(f"the probe was trained on all {len(questions)} questions of {dataset}; give other questions")
    return Task(
        dataset=MemoryDataset([question_sample(question) for question in fresh], name=dataset),
        solver=[answer_and_capture(seed, "rule", source.reduce), judge_and_classify(judge, probe)],
        scorer=detected(),
        config=chosen.config(),
        metadata={"probe": source.summary, "left_out_as_trained_on": len(questions) - len(fresh)},
    )


@solver
def judge_and_classify(judge: str, probe: str) -> Solver:
    """Label the answer by the judge, and its probability by the probe."""
    verdict_of, trained = judge_answers(judge), probe_from(probe).probe

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        verdict = await verdict_of(state, state.target)
        assert verdict is not None
        found: dict[str, Any] = dict((state.output.metadata or {}).get("hneurons", {}))
        decided = VERDICTS.get(str(verdict.value), "unparsed")
        found |= {"verdict": decided, "label": LABEL_OF.get(decided)}
        if found["label"] is None:
            found["skipped"] = decided
        elif found.get("contributions"):
            found |= await anyio.to_thread.run_sync(_classified, trained, found)
        else:
            found["skipped"] = "span missing"
        state.output.metadata = {"hneurons": found}
        return state

    return solve


def _classified(probe: "Probe", found: Mapping[str, Any]) -> dict[str, Any]:
    values = load_contributions(found["contributions"]).region("answer")[None]
    probability = float(probe.predict_proba(values)[0, 1])
    return {
        "probability": probability,
        "prediction": int(probability > probe.threshold_),
        # Scores that need no neurons; higher should mean more likely hallucinated.
        "baselines": {"length": float(found["response_tokens"]), "logprob": -float(found["mean_logprob"])},
    }
