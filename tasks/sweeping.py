"""Parts of all sweeps over alpha: conditions, control sets, samples, and the summary sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import numpy as np
from inspect_ai import SampleSource, Task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import Scorer
from inspect_ai.solver import Solver
from inspect_ai.viewer import TaskSamplesColumn, TaskSamplesView, ViewerConfig

from hneurons_eval.analysis.sweep_parameters import SUMMARY, Alphas, parse_alphas
from hneurons_eval.artifacts.logs import hneurons_model, model_layout
from hneurons_eval.artifacts.paths import check_writable, save_neurons
from hneurons_eval.artifacts.references import resolve
from hneurons_eval.engine import MAX_CONNECTIONS
from hneurons_eval.models.controls import KINDS, layer_matched_sets, random_sets
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import SIGNS, NeuronSet
from hneurons_eval.scorers.swept import figures_of, rows_of
from hneurons_eval.solvers.scaled import answer_scaled
from hneurons_eval.util.errors import UsageError, usage_errors

HARDEST, ALL = "hardest", "all"


# --- conditions ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conditions:
    """The neurons, the factors, and the sets that they are compared with.

    Attributes:
        neurons: digest of the kept set: exactly the neurons that are scaled.
        alphas: ascending, the baseline 1 among them.
        controls: digests of the control sets.
        kinds: of each control set.
        about: metadata for the log; `scaled` says in words which neurons are scaled.
    """

    neurons: str
    alphas: tuple[float, ...]
    controls: tuple[str, ...]
    kinds: tuple[str, ...]
    about: Mapping[str, Any] = field(hash=False)


def conditions(
    neurons: str,
    alphas: Alphas,
    controls: int,
    seed: int,
    sign: str = "positive",
    against: str | Sequence[str] = HARDEST,
) -> Conditions:
    """The conditions of a sweep of the evaluated model.

    Args:
        neurons: a reference (see `artifacts.references`).
        alphas: factors.
        controls: random sets of each kind.
        seed: of sets that are drawn anew.
        sign: which of the neurons are scaled, by their weight in the probe: `positive`, `negative` or `both`.
        against: kinds of random sets, as `control_sets` takes them.

    Raises:
        UsageError: another provider's model, or neurons, factors, a sign or controls that cannot be used.
    """
    hneurons_model()
    factors = parse_alphas(alphas)
    if isinstance(controls, bool) or not isinstance(controls, int) or controls < 0:
        raise UsageError(f"controls should be a number of neuron sets, at least 0, found {controls!r}")
    if sign not in SIGNS:
        raise UsageError(f"sign should be {', '.join(SIGNS[:-1])} or {SIGNS[-1]}, found {sign!r}")
    kinds_named(against)
    found = resolve(neurons, "neurons")
    chosen, known = found.chosen(sign), found.neurons
    assert known is not None
    with usage_errors():
        chosen.check(model_layout(), get_model().name)
        check_writable()
        sets = control_sets(chosen, model_layout(), found.directory, controls, seed, sign, against)
        kept = tuple(save_neurons(one) for _, one in sets)
    kinds = tuple(kind for kind, _ in sets)
    about = {
        "neurons": found.file,
        "neurons_digest": chosen.digest,
        "sign": sign,
        "scaled": scaled_in_words(chosen, known, sign),
        "size": len(chosen),
        "controls": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
    }
    return Conditions(save_neurons(chosen), tuple(factors), kept, kinds, about)


def scaled_in_words(chosen: NeuronSet, known: NeuronSet, sign: str) -> str:
    """`6 positive of the probe's 17 neurons`; without weights the number alone."""
    of_all = f"{len(known)} neuron{'' if len(known) == 1 else 's'}"
    if known.weights is None:
        return of_all
    if sign == "both":
        return f"all of the probe's {of_all}, {len(known.positive)} of them positive"
    return f"{len(chosen)} {sign} of the probe's {of_all}"


def kinds_named(against: str | Sequence[str]) -> tuple[str, ...]:
    """The kinds of random sets that a parameter names; empty for `hardest` and `all`.

    Raises:
        UsageError: another.
    """
    parts = against.split(",") if isinstance(against, str) else list(against)
    names = tuple(dict.fromkeys(part.strip() for part in parts))
    if names in ((HARDEST,), (ALL,)):
        return ()
    if not names or not set(names) <= set(KINDS):
        raise UsageError(f"against should be {HARDEST}, {ALL}, or some of {', '.join(KINDS)}, found {against!r}")
    return names


def control_sets(
    neurons: NeuronSet,
    layout: NeuronLayout,
    probe: Path | None,
    number: int,
    seed: int,
    sign: str = "positive",
    against: str | Sequence[str] = HARDEST,
) -> list[tuple[str, NeuronSet]]:
    """Control sets as large as the scaled set, with their kinds.

    Contribution-matched sets are the hard comparison: scaling by alpha changes a layer's output by (alpha - 1) times
    the contribution, so that these move the model as much as the neurons do. They and sd-matched ones need the activity
    of every neuron, which a probe's directory holds. One more set holds the strongest neurons of the other sign.

    Args:
        neurons: that are scaled.
        layout: of the model.
        probe: the probe's directory, or None.
        number: random sets of each kind.
        seed: of the sets.
        sign: of the scaled neurons.
        against: `hardest` (contribution-matched, else layer-matched), `all`, or names of kinds, with commas.

    Raises:
        UsageError: a kind that is named and cannot be drawn.
        ValueError: too few neurons in the model to draw from.
    """
    if not number:
        return []
    drawn = _drawn_sets(neurons.flat(layout), layout, probe, number, seed)
    wanted = kinds_named(against) or (tuple(drawn) if against == ALL else ())
    for kind in wanted:
        if kind not in drawn:
            raise UsageError(
                f"against={kind} needs the activity of every neuron in the probe's directory, or more neurons to draw "
                f"from; give the log or the directory of the probe, or choose against={', '.join(drawn)}"
            )
    found = [
        (kind, one)
        for kind in wanted or ("contribution" if "contribution" in drawn else "layer",)
        for one in drawn[kind]
    ]
    if probe is not None and sign != "both":
        found += _strongest_of_other_sign(probe, sign, len(neurons))
    return [
        (kind, NeuronSet.from_flat(one, layout, model=neurons.model, provenance={"control": kind}))
        for kind, one in found
    ]


def _drawn_sets(
    flat: np.ndarray, layout: NeuronLayout, probe: Path | None, number: int, seed: int
) -> dict[str, np.ndarray]:
    """Random sets as large as some neurons, none of which the probe uses, by kind."""
    from hneurons_eval.models.controls import Activity, load_activity
    from hneurons_eval.models.controls import control_sets as drawn_like
    from hneurons_eval.probe.classifier import Probe

    known = None if probe is None else load_activity(probe)
    if probe is not None and known is not None:
        used = np.union1d(np.flatnonzero(Probe.load(probe).coef_), flat)
        mean, deviation = (values.astype(np.float64) for values in known)
        return drawn_like(flat, layout.widths, Activity(mean, deviation), number, seed, used)
    return {
        "uniform": np.stack(random_sets(layout.widths, len(flat), number, seed, flat)),
        "layer": np.stack(layer_matched_sets(flat, layout.widths, number, seed)),
    }


def _strongest_of_other_sign(probe: Path, sign: str, size: int) -> list[tuple[str, np.ndarray]]:
    from hneurons_eval.probe.classifier import Probe

    weights = Probe.load(probe).coef_
    other, signed = ("negative", -weights) if sign == "positive" else ("positive", weights)
    found = np.flatnonzero(signed > 0)
    if not len(found):
        return []
    return [(other, np.sort(found[np.argsort(-signed[found], kind="stable")[:size]]))]


# --- samples ---------------------------------------------------------------------------------------------

Record = TypeVar("Record")


def series_named(given: str, among: Sequence[str], parameter: str) -> tuple[str, ...]:
    """The series that a parameter names: one of them, or `both`.

    Raises:
        UsageError: another.
    """
    if given != "both" and given not in among:
        raise UsageError(f"{parameter} should be {', '.join(among)} or both, found {given!r}")
    return tuple(among) if given == "both" else (given,)


class SweepSamples(SampleSource):
    """The samples of a sweep, and, once all have ended, a summary of them as one more sample."""

    def __init__(
        self,
        samples: Sequence[Sample],
        title: str,
        headlines: Sequence[str],
        scaled: str = "",
        order: Sequence[str] = (),
    ) -> None:
        self._samples, self._title, self._headlines = list(samples), title, list(headlines)
        self._scaled, self._order = scaled, tuple(order)
        self._done: dict[tuple[str, int], dict[str, Any]] = {}
        self._told = False

    def initial_samples(self) -> list[Sample]:
        return self._samples

    async def sample_complete(self, sample: EvalSample) -> list[Sample] | None:
        for score in (sample.scores or {}).values():
            if "outcomes" in (score.metadata or {}):
                self._done[str(sample.id), sample.epoch] = dict(score.metadata or {})
        return None

    async def next_samples(self) -> list[Sample] | None:
        if self._told or not self._done:
            return None
        self._told = True
        summary = await anyio.to_thread.run_sync(self._summary)
        return [Sample(id=SUMMARY, input=f"{self._title}: summary of all samples", metadata={SUMMARY: summary})]

    def _summary(self) -> str:
        from hneurons_eval.report import dose_response

        rows = rows_of(self._done.values())
        return dose_response.summary(self._title, figures_of(rows, self._headlines, self._order), self._scaled)


def swept_sample(sample: Sample, alpha: float, kinds: Sequence[str], series: str = "", cluster: str = "") -> Sample:
    """A question at one alpha: its id is `question@alpha`, `series:question@alpha` where there are several series.

    Args:
        sample: with the question's own id.
        kinds: of the control sets.
        series: of the sample, where a task has several.
        cluster: unit of resampling, where that is not the question.
    """
    item = str(sample.id)
    own = {"alpha": alpha, "item": item, "kinds": list(kinds)}
    own |= {"series": series} if series else {}
    own |= {"cluster": cluster} if cluster else {}
    return Sample(
        id=f"{series}:{item}@{alpha:g}" if series else f"{item}@{alpha:g}",
        input=sample.input,
        target=sample.target,
        metadata={**(sample.metadata or {}), **own},
    )


def sweep_task(
    samples: Sequence[Sample],
    under: Conditions,
    *,
    title: str,
    headlines: Sequence[str],
    scorer: Scorer,
    solver: Solver | None = None,
    config: GenerateConfig | None = None,
    about: Mapping[str, Any] | None = None,
    order: Sequence[str] = (),
) -> Task:
    """A task whose log holds every sample at every alpha, and their summary.

    Args:
        samples: as `swept_sample` makes them.
        under: the conditions.
        title: of the summary.
        headlines: outcomes that are reported in full; the first is the primary outcome.
        solver: default one turn.
        config: of the answers, beneath what the user sets; default greedy.
        about: metadata for the log.
        order: series of which the first has the primary outcome; others follow by name. As given to the scorer's
            `dose_response_figures`.
    """
    settings = GenerateConfig(temperature=0.0, max_connections=MAX_CONNECTIONS).merge(config or GenerateConfig())
    columns = ("sampleId", "input", "answer")
    return Task(
        dataset=SweepSamples(samples, title, headlines, str(under.about["scaled"]), order),
        solver=solver or answer_scaled(under.neurons, under.controls),
        scorer=scorer,
        config=settings,
        metadata={**under.about, **(about or {})},
        viewer=ViewerConfig(
            task_samples_view=TaskSamplesView(
                name="Question and alpha", columns=[TaskSamplesColumn(id=column) for column in columns]
            )
        ),
    )
