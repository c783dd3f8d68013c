"""Stage 4: detection of hallucinations in fresh answers to questions that the probe has not seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.solver import Generate, Solver, TaskState, solver

from hneurons_eval.artifacts.logs import hneurons_model
from hneurons_eval.artifacts.paths import check_writable, store_of
from hneurons_eval.artifacts.references import Reference, resolve_probe
from hneurons_eval.data.presets import preset_named
from hneurons_eval.data.questions import Question, normalise_question
from hneurons_eval.data.selection import check_questions, questions_for, spread
from hneurons_eval.judging.nonexistent import label_of
from hneurons_eval.scorers.detected import detected
from hneurons_eval.scorers.judge import VERDICTS, check_judge
from hneurons_eval.scorers.judge import judge as judge_answers
from hneurons_eval.solvers.capture import answer_and_capture
from hneurons_eval.solvers.classify import described_scores
from hneurons_eval.tasks.collect import question_sample, sampling_config
from hneurons_eval.util.errors import UsageError, checked_arguments, usage_errors
from hneurons_eval.util.files import BASELINES
from hneurons_eval.util.packing import pack

if TYPE_CHECKING:
    from hneurons_eval.probe.baseline_classifiers import Baselines


@task
@checked_arguments
def detect(
    probe: str = "",
    dataset: str | list[str] = "facts",
    judge: str = "rule",
    preset: str = "paper",
    questions: int | None = None,
    split: str | None = None,
    part: str = "auto",
    seed: int = 1,
) -> Task:
    """One answer to each question, and the probability that it is hallucinated.

    Questions that the probe was trained on are left out. Answers that are not attempted are neither faithful nor
    hallucinated: they are counted and not classified. Of an invented entity (`nonexist`) that is the faithful answer.

    Args:
        probe: the log of the `probe` task, or a probe directory.
        dataset: as in `collect`; several, separated by commas, are reported each for itself in one log.
        judge: `rule`, `llm` or `cascade`: verdicts that the probe's calls are compared with.
        preset: sampling, as in `collect` (one answer a question).
        questions: at most this many of each set, drawn evenly over relations; default all.
        split: of a Hub set.
        part: `all`, `train` or `test`, as in `collect`; `auto` is `test` of a set that the probe was trained on, else
            `all`. Balancing leaves of a relation that was trained on the answers of one class only, so that detection
            among them says little; the log flags them (`audit_leftover`).
        seed: of the answers and the choice of questions.
    """
    hneurons_model()
    chosen = preset_named(preset)
    with usage_errors():
        check_judge(judge)
        check_writable()
    source = resolve_probe(probe, same_model=True)
    samples, left_out = untrained_samples(source, dataset, part, split, questions, seed)
    return Task(
        dataset=MemoryDataset(samples, name=",".join(map(set_label, named_sets(dataset)))),
        solver=[answer_and_capture(seed, "rule", source.reduce), judge_and_classify(judge, probe)],
        scorer=detected(),
        config=sampling_config(chosen),
        metadata={"probe": source.summary, "left_out_as_trained_on": left_out},
    )


def untrained_samples(
    source: Reference,
    dataset: str | Sequence[str],
    part: str,
    split: str | None,
    questions: int | None,
    seed: int,
) -> tuple[list[Sample], dict[str, int]]:
    """The questions of some sets that the probe was not trained on, and how many of each were left out.

    Arguments as of `detect`.

    Raises:
        UsageError: a set that cannot be had or has no other questions; a number of questions below 1.
    """
    check_questions(questions)
    names = named_sets(dataset)
    trained = set(source.fitted.metadata.get("training_questions", ()))
    samples: list[Sample] = []
    left_out: dict[str, int] = {}
    for name in names:
        everything = questions_for(name, "all", split)
        touched = [q for q in everything if normalise_question(q.question) in trained]
        chosen = ("test" if touched else "all") if part == "auto" else part
        known = everything if chosen == "all" else questions_for(name, chosen, split)
        leftovers: set[str] = set()
        if touched:
            test = known if chosen == "test" else questions_for(name, "test", split)
            leftovers = _leftovers(touched, everything, test)
        fresh = [question for question in known if normalise_question(question.question) not in trained]
        if not fresh:
            more = ", or part=all" if chosen == "test" else ""
            raise UsageError(
                f"the probe was trained on all {len(known)} questions of {name}; give other questions{more}"
            )
        left_out[set_label(name)] = len(known) - len(fresh)
        for question in spread(fresh, questions or len(fresh), seed):
            own = f"{set_label(name)}/{question.id}" if len(names) > 1 else question.id
            sample = question_sample(question, own, dataset=set_label(name))
            if touched:
                sample.metadata = {**(sample.metadata or {}), "trained_relation": question.id in leftovers}
            samples.append(sample)
    return samples, left_out


def _leftovers(touched: Sequence[Question], everything: Sequence[Question], test: Sequence[Question]) -> set[str]:
    """Ids of the questions that a probe's training set was drawn from, by relation: balancing left them over.

    Args:
        touched: the questions that were trained on.
        everything: the set, and `test`: its test part.
    """
    ids = {question.id for question in touched}
    clean = {question.id for question in test} if not any(question.id in ids for question in test) else set()
    relations = {question.relation for question in touched}
    return {q.id for q in everything if q.relation in relations and q.id not in clean}


def named_sets(dataset: str | Sequence[str]) -> list[str]:
    """The question sets of `a,b` or a list.

    Raises:
        UsageError: none, or one twice.
    """
    parts = dataset.split(",") if isinstance(dataset, str) else list(dataset)
    names = [part.strip() for part in parts if part.strip()]
    labels = [set_label(name) for name in names]
    if not names or len(set(labels)) < len(labels):
        raise UsageError(f"dataset should name at least one question set, and none twice, found {dataset!r}")
    return names


def set_label(name: str) -> str:
    """What a question set is called in the log: its name, of a file the name without folder and extension."""
    return Path(name).stem if "/" in name or "." in name else name


@solver
def judge_and_classify(judge: str, probe: str, same_model: bool = True) -> Solver:
    """Label the answer by the judge, and its probability by the probe (of the same model, else of the same layers)."""
    verdict_of, source = judge_answers(judge), resolve_probe(probe, same_model=same_model)
    baselines = baselines_of(source)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        verdict = await verdict_of(state, state.target)
        assert verdict is not None
        found: dict[str, Any] = dict((state.output.metadata or {}).get("hneurons", {}))
        decided = VERDICTS.get(str(verdict.value), "unparsed")
        found |= {"verdict": decided, "label": label_of(decided, exists=state.metadata.get("exists", True))}
        if found["label"] is None:
            found["skipped"] = decided
        elif found.get("contributions"):
            found |= await anyio.to_thread.run_sync(classified, source, baselines, found)
        else:
            found["skipped"] = "span missing"
        state.output.metadata = {"hneurons": found}
        return state

    return solve


def baselines_of(source: Reference) -> "Baselines | None":
    """What the probe was compared with, where that is kept beside it.

    Raises:
        UsageError: it is there and cannot be read.
    """
    from hneurons_eval.probe.baseline_classifiers import Baselines

    path = Path(source.summary["directory"]) / BASELINES
    with usage_errors():
        return Baselines.load(path) if path.is_file() else None


def classified(source: Reference, baselines: "Baselines | None", found: Mapping[str, Any]) -> dict[str, Any]:
    """Probability, call and neurons of one answer, and the scores of everything the probe is compared with."""
    from hneurons_eval.probe.baselines import scalar_inputs
    from hneurons_eval.probe.nested_cv import SIGNED, part_by_sign

    probe = source.fitted
    row = store_of([found["contributions"]]).get(found["contributions"])
    answer, prompt = row.values[0][None], row.values[2][None]
    probability = float(probe.predict_proba(answer)[0, 1])
    result: dict[str, Any] = {
        "probability": probability,
        "prediction": int(probability > probe.threshold_),
        "threshold": float(probe.threshold_),
        "top_neurons": probe.top_neurons(answer)[0],
        "probe": source.summary,
    }
    if probe.penalty == "l1":
        result["selected"] = pack(answer[0, probe.coef_ != 0])
    if baselines is not None:
        hidden = row.extras.get("hidden")
        scalars = scalar_inputs([found])
        hidden_states = None if hidden is None else hidden[None]
        scores = baselines.scores(answer, scalars, hidden_states, prompt, probe.decision_function(answer))
        if probe.penalty == "l1":
            scores.plain |= {sign: part_by_sign(answer, probe.coef_, sign) for sign in SIGNED}
        result |= described_scores(scores, 0)
    return result
