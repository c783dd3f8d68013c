"""External tasks: logs of any suite, run at several alphas, as one sweep paired by sample.

```python
sweep = external_sweep(list(read_logs("logs/theirs")))
sweep.outcomes[0.0]["sample-7"]                       # the score of that sample with the neurons off
dose_response(arrange(sweep.rows())[""], ["score"])  # see hneurons_eval.analysis.dose_response
```

The neurons and alpha of a log are those of its model args (`-M neurons=... -M alpha=...`); without them, or at 1, it is
the baseline. Logs of neurons that were drawn at random, as their file says, are control sets.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hneurons_eval.analysis.dose_response import BASELINE_ALPHA, Row, SweepError
from hneurons_eval.analysis.selective_prediction import score_of
from hneurons_eval.artifacts.references import resolve
from hneurons_eval.models.neuron_set import check_alpha

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

Table = Mapping[float, Mapping[str, float]]
"""By alpha and sample, what the task's scorer gave."""
RISK = "hallucination_risk"


@dataclass(frozen=True)
class ExternalSweep:
    """Scores of a task at each alpha.

    Attributes:
        task: its name.
        model: the model.
        scorer: whose values these are.
        neurons: the file or directory of the scaled neurons.
        outcomes: with these, the baseline at 1; scores from 0 to 1, where an answer that attempts nothing is 0.
        controls: the same with each random set, by file; without the baseline.
    """

    task: str
    model: str
    scorer: str
    neurons: str
    outcomes: Table = field(repr=False)
    controls: Mapping[str, Table] = field(repr=False)

    def rows(self, outcome: str = "score") -> list[Row]:
        """The outcomes for `dose_response.arrange`."""
        kinds = ("random",) * len(self.controls)
        return [
            Row(
                item,
                alpha,
                {outcome: [value, *(table.get(alpha, {}).get(item) for table in self.controls.values())]}
                if alpha != BASELINE_ALPHA
                else {outcome: [value]},
                kinds=kinds if alpha != BASELINE_ALPHA else (),
            )
            for alpha, values in self.outcomes.items()
            for item, value in values.items()
        ]


def external_sweep(logs: "Sequence[EvalLog]", scorer: str = "") -> ExternalSweep:
    """The outcomes of several logs of one task.

    Args:
        logs: read whole, in any order.
        scorer: whose scores to take, `scorer/key` for one value of a dict; empty: the first in the log that gives
            correct or incorrect or numbers from 0 to 1, other than `hallucination_risk`.

    Raises:
        SweepError: no logs, several tasks or models, a log that is not finished, one alpha twice with the same
            neurons, several neuron sets that are not random, no baseline, or no such scores.
    """
    if not logs:
        raise SweepError("there are no logs; give those of one task at several alphas")
    for what, found in (
        ("task", {log.eval.task for log in logs}),
        ("model", {log.eval.model for log in logs}),
        ("data set", {str(log.eval.dataset.name) for log in logs}),
    ):
        if len(found) > 1:
            raise SweepError(f"the logs should be of one {what}, found {', '.join(sorted(found))}")
    by_neurons: dict[str, dict[float, dict[str, float]]] = {}
    names: list[str] = []
    for log in logs:
        if log.status != "success":
            raise SweepError(f"{log.location} ended with status {log.status}; finish it: inspect eval-retry")
        neurons, alpha = scaling_of(log.eval.model_args)
        name = scorer or first_scorer(log)
        names.append(name)
        table = by_neurons.setdefault(neurons, {})
        if alpha in table:
            raise SweepError(f"{log.location} is a second log at alpha {alpha:g}; leave one of them out")
        table[alpha] = values_of(log, name)
    if len(set(names)) > 1:
        raise SweepError(f"the logs have different first scorers ({', '.join(sorted(set(names)))}); name one")
    baseline = by_neurons.pop("", None)
    if baseline is None:
        raise SweepError("none of the logs is of the baseline; run the task with alpha=1 as well")
    random = {name: table for name, table in by_neurons.items() if _is_control(name, logs[0].location)}
    own = [name for name in by_neurons if name not in random]
    if len(own) != 1:
        raise SweepError(f"the logs should scale one neuron set besides random ones, found {', '.join(own) or 'none'}")
    outcomes = dict(sorted((baseline | by_neurons[own[0]]).items()))
    return ExternalSweep(logs[0].eval.task, logs[0].eval.model, names[0], own[0], outcomes, random)


def scaling_of(model_args: Mapping[str, Any]) -> tuple[str, float]:
    """The neurons (empty for none) and alpha that model args name; none at the baseline, which does not touch any."""
    neurons, alpha = model_args.get("neurons"), model_args.get("alpha")
    factor = BASELINE_ALPHA if alpha is None else check_alpha(alpha)
    return ("", BASELINE_ALPHA) if neurons is None or factor == BASELINE_ALPHA else (str(neurons), factor)


def values_of(log: "EvalLog", scorer: str) -> dict[str, float]:
    """By sample id the mean over epochs of a scorer's values, from 0 to 1; samples without one are left out.

    Raises:
        SweepError: no sample has such a value.
    """
    name, _, key = scorer.partition("/")
    found: dict[str, list[float]] = {}
    for sample in log.samples or []:
        score = (sample.scores or {}).get(name)
        value = None if score is None else score.value
        if key:
            value = value.get(key) if isinstance(value, Mapping) else None
        number, refused = score_of(value)
        if number is not None or refused:
            found.setdefault(str(sample.id), []).append(number or 0.0)
    if not found:
        raise SweepError(f"{log.location} has no scores from 0 to 1 of {scorer or 'any scorer'}; score it, or name one")
    return {item: math.fsum(values) / len(values) for item, values in found.items()}


def first_scorer(log: "EvalLog") -> str:
    """The first scorer of a log that gives correct, incorrect or numbers from 0 to 1; empty without one."""
    for sample in log.samples or []:
        for name, score in (sample.scores or {}).items():
            number, refused = score_of(score.value)
            if not name.startswith(RISK) and (number is not None or refused):
                return name
    return ""


def _is_control(reference: str, log: str) -> bool:
    """Whether a neuron file says that its neurons were drawn at random."""
    try:
        found = resolve(reference, near=[log]).neurons
    except ValueError:
        return False  # moved or gone since: taken for the neurons in question
    return found is not None and bool(found.provenance.get("control"))
