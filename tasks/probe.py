"""Stage 3: find the neurons, and say how well they tell hallucinated from faithful answers they never saw."""

import logging
from collections.abc import Sequence

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig

from hneurons_eval.analysis.detection import LABELS
from hneurons_eval.artifacts.logs import captured_answers, check_same_model, model_layout, read_stage
from hneurons_eval.artifacts.paths import check_writable
from hneurons_eval.artifacts.pipeline_steps import probe_settings
from hneurons_eval.artifacts.records import AnswerRecord
from hneurons_eval.engine import MAX_CONNECTIONS
from hneurons_eval.probe.cost import fit_bytes, training_rows
from hneurons_eval.scorers.detected import detected
from hneurons_eval.solvers.classify import classify
from hneurons_eval.util.errors import UsageError, checked_arguments, usage_errors
from hneurons_eval.util.memory import check_room

logger = logging.getLogger(__name__)
FEW_ANSWERS = 100


@task
@checked_arguments
def probe(
    features: str = "",
    mode: str = "3-vs-1",
    penalty: str = "l1",
    C: float | str = "auto",
    folds: int = 10,
    controls: int = 100,
    seed: int = 0,
) -> Task:
    """Train the sparse classifier and report it on answers whose whole relation (else question) was held out.

    The samples of the log are the captured answers, each with the probability given by a probe that saw nothing
    of its relation. The probe that is kept is trained on all of them; its neurons are those with positive weight.

    Args:
        features: the log of `capture`, or a directory that holds it.
        mode: `3-vs-1` (the paper's: hallucinated answer tokens against faithful ones and all other tokens) or
            `1-vs-1` (hallucinated against faithful answer tokens).
        penalty: `l1` (few neurons) or `l2` (a detector only).
        C: `auto` (least held-out log-loss, smoothed over C), `paper` (held-out accuracy + accuracy with the candidates
            suppressed), or a number as in scikit-learn. Always chosen without the answers it is reported on.
        folds: relations (else questions) are held out in this many parts.
        controls: neuron sets of each kind to compare with: drawn from the whole model, with as many in each layer, with
            like mean contributions, and with contributions of like standard deviation.
        seed: of folds, control sets and resamples.
    """
    settings = probe_settings(mode, penalty, C, folds, controls, seed)
    log = read_stage(features, "capture", "features")
    check_same_model(log, "features")
    rows = captured_answers(log)
    with usage_errors():
        check_writable()
        check_matrix_fits(len(rows), model_layout().total, mode)
    labels = {row.label for row in rows}
    for label in LABELS:
        if label not in labels:
            raise UsageError(f"features has no {label} answers; a probe needs both classes: collect more questions")
    if settings.needs_model and not any(row.aliases for row in rows):
        raise UsageError(
            "features has no accepted answers, by which C=paper judges the model with its candidates suppressed; "
            "use C=auto"
        )
    for warning in warnings_about(rows):
        logger.warning(warning)
    return Task(
        dataset=MemoryDataset([_sample(row) for row in rows], name=log.eval.dataset.name),
        solver=classify(log.location, mode, penalty, C, folds, controls, seed),
        scorer=detected(),
        config=GenerateConfig(max_connections=MAX_CONNECTIONS),
        metadata={"source": log.location, "reduce": (log.eval.metadata or {}).get("reduce", "mean")},
    )


def warnings_about(rows: Sequence[AnswerRecord]) -> list[str]:
    """What makes figures of a probe on these answers worth little."""
    found = []
    if len(rows) < FEW_ANSWERS:
        found.append(f"{len(rows)} answers are few for a probe: its figures will have wide intervals; collect more")
    relations = {row.relation for row in rows}
    if len(relations) == 1 and None not in relations:
        found.append(
            f"all answers are of one relation ({relations.pop()}): nothing shows whether the probe works on others; "
            "collect with questions=NUMBER, which is spread over relations, in place of --limit"
        )
    return found


def check_matrix_fits(answers: int, neurons: int, mode: str) -> None:
    """Refuse to fit what does not fit the memory.

    Raises:
        NotEnoughMemoryError: says how much it would take.
    """
    less = "use mode=1-vs-1, which takes half, or " if mode == "3-vs-1" else ""
    what = f"fitting {training_rows(answers, mode):,} rows of {neurons:,} neurons"
    check_room(fit_bytes(answers, neurons, mode), what, f"{less}capture fewer answers (per_class)")


def _sample(row: AnswerRecord) -> Sample:
    about = {"question": row.question, "relation": row.relation}
    return Sample(id=row.id, input=row.question, target=row.label, metadata=about)
