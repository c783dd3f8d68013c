"""What all sweeps over alpha share: the conditions, the samples, asking under each condition, and the account."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.to_thread
import numpy as np
from inspect_ai import SampleSource, Task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSample
from inspect_ai.model import ChatMessage, GenerateConfig, ModelOutput, get_model
from inspect_ai.scorer import Scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.viewer import TaskSamplesColumn, TaskSamplesView, ViewerConfig

from hneurons_eval.artifacts import check_writable, save_neurons
from hneurons_eval.controls import layer_matched_sets, random_sets
from hneurons_eval.dose_response import NEGATIVE, NO_OP
from hneurons_eval.layout import NeuronLayout
from hneurons_eval.neurons import NeuronSet, check_alpha
from hneurons_eval.provider_limits import MOST_CONNECTIONS
from hneurons_eval.refusals import Refused, refusing
from hneurons_eval.scorers.swept import SUMMARY, figures_of, rows_of
from hneurons_eval.tasks.probe_source import neurons_from, probe_directory_of
from hneurons_eval.tasks.stage_logs import check_hneurons_model, model_layout

Alphas: TypeAlias = str | float | list[float] | list[str]
"""Factors as a task takes them: `0,0.5,1`, one number, or a list."""
ALPHAS = "0,0.5,1,1.5,2,2.5,3"


def parse_alphas(alphas: str | float | Sequence[float | str]) -> list[float]:
    """Ascending factors, the no-op among them, from `0,0.5,1` or a list.

    Raises:
        Refused: none, or one that is negative or not a number.
    """
    parts = alphas.split(",") if isinstance(alphas, str) else alphas if isinstance(alphas, list | tuple) else [alphas]
    with refusing():
        values = sorted({check_alpha(part.strip() if isinstance(part, str) else part) for part in parts} | {NO_OP})
    if len(values) < 2:
        raise Refused("alphas should name at least one factor beside the no-op 1, for example alphas=0,0.5,2")
    return values


# --- conditions ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conditions:
    """The neurons, the factors, and the sets that they are compared with.

    Attributes:
        neurons: digest of the kept set.
        alphas: ascending, the no-op among them.
        controls: digests of the control sets.
        kinds: how each of them was drawn.
        about: what the log says of all this.
    """

    neurons: str
    alphas: tuple[float, ...]
    controls: tuple[str, ...]
    kinds: tuple[str, ...]
    about: Mapping[str, Any] = field(hash=False)


def conditions(neurons: str, alphas: Alphas, controls: int, seed: int) -> Conditions:
    """The conditions of a sweep of the model that is evaluated.

    Raises:
        Refused: another provider's model, or neurons, factors or a number of controls that cannot be used.
    """
    check_hneurons_model()
    factors = parse_alphas(alphas)
    if isinstance(controls, bool) or not isinstance(controls, int) or controls < 0:
        raise Refused(f"controls should be a number of neuron sets, at least 0, found {controls!r}")
    known, name = neurons_from(neurons)
    chosen = known.positive
    if not len(chosen):
        raise Refused(f"{name} holds {len(known)} neurons, none of them with a positive weight; train with a larger C")
    with refusing():
        check_writable()
        sets = control_sets(chosen, model_layout(), probe_directory_of(neurons), controls, seed)
        kept = tuple(save_neurons(one) for _, one in sets)
    kinds = tuple(kind for kind, _ in sets)
    about = {
        "neurons": name,
        "neurons_digest": chosen.digest,
        "size": len(chosen),
        "controls": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
    }
    return Conditions(save_neurons(chosen), tuple(factors), kept, kinds, about)


def control_sets(
    neurons: NeuronSet, layout: NeuronLayout, probe: Path | None, number: int, seed: int
) -> list[tuple[str, NeuronSet]]:
    """Neuron sets of equal size with how they were drawn: `number` at random, in turn of each kind, and a negative one.

    With a probe's directory the random ones are those with which the probe was compared (uniform, layer,
    contribution), and the neurons with the most negative weights are a set of their own kind beside them. Without,
    they are drawn anew, uniform and by layer.
    """
    from hneurons_eval.baselines import Baselines
    from hneurons_eval.tasks.probe import BASELINES

    flat = neurons.flat(layout)
    drawn: dict[str, list[Any]] = {}
    if number and probe is not None and (probe / BASELINES).is_file():
        baselines = Baselines.load(probe / BASELINES)
        for one in baselines.sets.values():
            if np.array_equal(one.chosen.neurons[0], flat):
                drawn = {kind: list(sets.neurons) for kind, sets in one.controls.items()}
    if number and sum(map(len, drawn.values())) < number:
        each = (number + 1) // 2
        drawn = {
            "uniform": random_sets(layout.widths, len(flat), each, seed, flat),
            "layer": layer_matched_sets(flat, layout.widths, each, seed),
        }
    turns = [
        (kind, sets[turn])
        for turn in range(max(map(len, drawn.values()), default=0))
        for kind, sets in drawn.items()
        if turn < len(sets)
    ]
    chosen = turns[:number]
    if number and probe is not None:
        chosen += [(NEGATIVE, one) for one in _most_negative(probe, len(flat))]
    return [
        (kind, NeuronSet.from_flat(one, layout, model=neurons.model, provenance={"control": kind}))
        for kind, one in chosen
    ]


def _most_negative(probe: Path, size: int) -> list[Any]:
    from hneurons_eval.probe import Probe

    weights = Probe.load(probe).coef_
    negative = np.flatnonzero(weights < 0)
    if not len(negative):
        return []
    return [np.sort(negative[np.argsort(weights[negative], kind="stable")[:size]])]


# --- asking ----------------------------------------------------------------------------------------------


class Scaled:
    """The evaluated model under one condition."""

    def __init__(self, neurons: str | None, alpha: float) -> None:
        self.alpha = alpha
        self._condition = {"neurons": neurons, "alpha": alpha} if neurons is not None else {"neurons": None}

    async def generate(self, messages: Sequence[ChatMessage], config: GenerateConfig | None = None) -> ModelOutput:
        """The model's answer, by the task's settings and those of `config`."""
        extra = GenerateConfig(extra_body={"hneurons": self._condition})
        return await get_model().generate(list(messages), config=(config or GenerateConfig()).merge(extra))

    async def likelihood(self, messages: Sequence[ChatMessage], text: str) -> float:
        """The log-probability of a text as the answer, in nats: the sum over its tokens."""
        extra = GenerateConfig(extra_body={"hneurons": {**self._condition, "likelihood": text}})
        output = await get_model().generate(list(messages), config=extra)
        return float((output.metadata or {})["hneurons"]["likelihood"])


@dataclass(frozen=True)
class Reply:
    """What a dialogue came to under one condition.

    Attributes:
        messages: what was said after the question, by both.
        text: the final answer.
        stop: why it ended.
        tokens: of the final answer.
        details: what else the judge needs; JSON.
    """

    messages: tuple[ChatMessage, ...]
    text: str
    stop: str
    tokens: int
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, output: ModelOutput, before: Sequence[ChatMessage] = (), **details: Any) -> "Reply":
        """From the output that ends a dialogue, and the messages between question and that output."""
        tokens = output.usage.output_tokens if output.usage else 0
        return cls((*before, output.message), output.completion, str(output.stop_reason), tokens, details)

    def kept(self) -> dict[str, Any]:
        """For the log, without the messages."""
        return {"text": self.text, "stop": self.stop, "tokens": self.tokens, **self.details}


Dialogue = Callable[[TaskState, Scaled], Awaitable[Reply]]


async def one_turn(state: TaskState, model: Scaled) -> Reply:
    """The answer to the sample's input."""
    return Reply.of(await model.generate(state.messages))


async def under_all_conditions(
    state: TaskState, neurons: str, controls: Sequence[str], dialogue: Dialogue
) -> TaskState:
    """Lead the dialogue with the neurons scaled by the sample's alpha, and once for each control set.

    At the no-op nothing depends on the neurons: one dialogue stands for all sets. In the sample that tells what all
    others show nothing is asked.
    """
    if state.sample_id == SUMMARY:
        return state
    alpha = float(state.metadata["alpha"])
    found: dict[int, Reply] = {}

    async def lead(number: int, digest: str) -> None:
        found[number] = await dialogue(state, Scaled(digest, alpha))

    async with anyio.create_task_group() as group:
        # The neurons' own dialogue last: of a sample that Inspect recovers from a killed process the output is what
        # the last request was answered.
        for number, digest in reversed([*enumerate([neurons, *(() if alpha == NO_OP else controls)])]):
            group.start_soon(lead, number, digest)
    own = found[0]
    state.store.set("reply", own.kept())
    state.store.set("controls", [found[number].kept() for number in range(1, len(found))])
    state.messages.extend(own.messages)
    state.output = ModelOutput.from_content(
        model=str(get_model()),
        content=own.text,
        stop_reason=own.stop,  # pyright: ignore[reportArgumentType]
    )
    return state


@solver
def answer_scaled(neurons: str, controls: Sequence[str]) -> Solver:
    """Answer with the neurons scaled by the sample's alpha, and once for each control set."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        return await under_all_conditions(state, neurons, controls, one_turn)

    return solve


# --- samples ---------------------------------------------------------------------------------------------

Record = TypeVar("Record")


def series_named(given: str, among: Sequence[str], parameter: str) -> tuple[str, ...]:
    """The series that a parameter names: one of them, or `both`.

    Raises:
        Refused: another.
    """
    if given != "both" and given not in among:
        raise Refused(f"{parameter} should be {', '.join(among)} or both, found {given!r}")
    return tuple(among) if given == "both" else (given,)


def drawn(rows: Sequence[Record], number: int | None, seed: int) -> list[Record]:
    """At most so many rows, in their own order."""
    if number is None or number >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(np.random.default_rng(seed).permutation(len(rows))[:number].tolist())]


class SweepSamples(SampleSource):
    """The samples of a sweep, and, once all have ended, one that tells what they show together."""

    def __init__(self, samples: Sequence[Sample], title: str, headlines: Sequence[str]) -> None:
        self._samples, self._title, self._headlines = list(samples), title, list(headlines)
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
        account = await anyio.to_thread.run_sync(self._account)
        return [Sample(id=SUMMARY, input=f"{self._title}: what all samples show together", metadata={SUMMARY: account})]

    def _account(self) -> str:
        from hneurons_eval.report.dose_response import account

        rows = rows_of(self._done.values())
        return account(self._title, figures_of(rows, self._headlines), self._headlines)


def swept_sample(sample: Sample, alpha: float, kinds: Sequence[str], series: str = "", cluster: str = "") -> Sample:
    """A question at one alpha: its id is `question@alpha`, `series:question@alpha` where there are several series.

    Args:
        sample: with the question's own id.
        kinds: of the control sets.
        series: what is reported for itself.
        cluster: the unit of resampling, where that is not the question.
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
) -> Task:
    """A task whose log holds every sample at every alpha, and what they show together.

    Args:
        samples: as `swept_sample` makes them.
        under: the conditions.
        title: of the account.
        headlines: outcomes that are reported in full, the most important first.
        solver: default one turn.
        config: of the answers, beneath what the user sets; default greedy.
        about: what the log is to say of the task.
    """
    settings = GenerateConfig(temperature=0.0, max_connections=MOST_CONNECTIONS).merge(config or GenerateConfig())
    columns = ("sampleId", "input", "answer")
    return Task(
        dataset=SweepSamples(samples, title, headlines),
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
