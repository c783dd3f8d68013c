"""Drift: rank of the H-neurons among all neurons by how far training moved their weights from the base model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import numpy as np
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig, ModelOutput
from inspect_ai.solver import Generate, Solver, TaskState, solver

from hneurons_eval.artifacts.logs import hneurons_model
from hneurons_eval.artifacts.references import resolve
from hneurons_eval.engine import MAX_CONNECTIONS
from hneurons_eval.models.controls import load_activity
from hneurons_eval.scorers.drifted import drifted
from hneurons_eval.solvers.classify import report_progress
from hneurons_eval.util.errors import UsageError, checked_arguments, usage_errors

if TYPE_CHECKING:
    from hneurons_eval.analysis.drift_ranks import Ranking

WHOLE = "all layers"


@task
@checked_arguments
def drift(
    base: str = "",
    neurons: str = "",
    checkpoints: str | list[str] = "",
    sets: int = 2000,
    seed: int = 0,
    sign: str = "positive",
) -> Task:
    """Rank the neurons among all by how far training moved their weights (up and down vectors) from the base model.

    Nothing is generated. The first sample is the whole comparison, with its pictures; then one for each layer. Rank 0
    changed most, 1 least, 0.5 is chance.

    Args:
        base: where training began: a Hub id (`org/model@revision`), a directory, or the bundled name.
        neurons: a neuron file, probe directory, log of the `probe` task or directory of logs, digest, or Hub id.
        checkpoints: what is compared with the base; several, the steps of one run in order and separated by commas,
            make a timeline. Default the model being evaluated; with `--model none` this is needed, and no model
            is loaded.
        sets: random sets of each kind: uniform, layer-matched and, where the probe's directory is there with the
            activity of every neuron, contribution- and sd-matched.
        seed: of the random sets.
        sign: of the weights: `positive` (the H-neurons), `negative` or `both`.
    """
    if not base:
        raise UsageError("base is missing; give the model that training began with: -T base=MODEL")
    if sets < 1:
        raise UsageError(f"sets should be at least 1, found {sets}")
    names = checkpoint_names(checkpoints)
    with usage_errors():
        from hneurons_eval.analysis.drift import check_comparable
        from hneurons_eval.models.architecture import neuron_layout
        from hneurons_eval.models.weights.reader import WeightFiles

        named = resolve(neurons, "neurons")
        chosen = named.chosen(sign)
        first = WeightFiles(base.removeprefix("hneurons/"))
        layout = neuron_layout(first.model)
        chosen.check(layout, first.name)
        for name in names:
            check_comparable(first, WeightFiles(name))
    samples = [Sample(id=WHOLE, input=f"How far were {len(chosen)} neurons moved from {base} to {', '.join(names)}?")]
    samples += [
        Sample(id=f"layer {layer:02d}", input=f"Layer {layer}: {count} of the neurons", metadata={"layer": layer})
        for layer, count in enumerate(np.bincount(chosen.layers, minlength=len(layout.widths)).tolist())
    ]
    return Task(
        dataset=MemoryDataset(samples, name=f"{first.name} to {', '.join(names)}"),
        solver=compare(first.name, names, neurons, sets, seed, sign),
        scorer=drifted(),
        config=GenerateConfig(max_connections=MAX_CONNECTIONS),
        metadata={
            "base": first.name,
            "checkpoints": names,
            "neurons": named.file,
            "neurons_digest": chosen.digest,
            "sign": sign,
        },
    )


def checkpoint_names(checkpoints: str | Sequence[str]) -> list[str]:
    """The checkpoints of `a,b` or a list; without any, that of the `hneurons/` model being evaluated.

    Raises:
        UsageError: none are given and the model is of another provider.
    """
    parts = checkpoints.split(",") if isinstance(checkpoints, str) else list(checkpoints)
    names = [part.strip().removeprefix("hneurons/") for part in parts if part.strip()]
    if names:
        return names
    model = hneurons_model(instead=", or name -T checkpoints=MODEL")
    revision = model.model_args.get("revision")
    return [f"{model.name}@{revision}" if revision else model.name]


@solver
def compare(
    base: str, checkpoints: Sequence[str], neurons: str, sets: int = 2000, seed: int = 0, sign: str = "positive"
) -> Solver:
    """Solver that compares the checkpoints at the first sample and gives each sample the result for its layer.

    The arguments are those of the task.
    """
    named = resolve(neurons, "neurons")
    lock = anyio.Lock()
    found: list[Any] = []

    def measured() -> "list[Ranking]":
        from hneurons_eval.analysis.drift_ranks import follow

        activity = None if named.directory is None else load_activity(named.directory)
        chosen = named.chosen(sign)
        return follow(
            base, list(checkpoints), chosen, sets, seed, lambda message: report_progress(message, "drift"), activity
        )

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        async with lock:
            if not found:
                found.append(await anyio.to_thread.run_sync(measured))
        details = await anyio.to_thread.run_sync(_details, found[0], state.metadata.get("layer"))
        state.output = ModelOutput.from_content(str(state.model), str(details.pop("said")))
        state.output.metadata = {"hneurons": details}
        return state

    return solve


def _details(rankings: "Sequence[Ranking]", layer: int | None) -> dict[str, Any]:
    """Metadata of one sample: its mean rank, a summary for its explanation, and a line for its answer."""
    from hneurons_eval.analysis.drift_ranks import by_layer, short_names
    from hneurons_eval.report import drift_summary

    last = rankings[-1]
    if layer is None:
        figures = last.figures()
        told = drift_summary.headline(last)
        several = len(rankings) > 1
        if several:
            told = f"{drift_summary.timeline_summary(rankings)}\n\n{told}"
            for name, one in zip(short_names([one.drift.checkpoint for one in rankings]), rankings, strict=True):
                own = one.figures()
                names = ("mean_rank", "mean_rank_low", "mean_rank_high", "p")
                figures |= {f"{name}/{key}": own[key] for key in names}
        return {
            "mean_rank": last.mean.estimate,
            "figures": figures,
            "summary": told,
            "said": drift_summary.in_words(last.figures()),
        }
    here = by_layer(last)[layer]
    rank = float(here.mean_rank) if len(here.neurons) else None
    said = "none of the neurons" if rank is None else f"{len(here.neurons)} of the neurons, mean rank {rank:.3f}"
    return {
        "layer": layer,
        "mean_rank": rank,
        "mean_rank_others": float(here.mean_rank_others) if np.isfinite(here.mean_rank_others) else None,
        "neurons": len(here.neurons),
        "summary": drift_summary.layer_summary(rankings, layer),
        "said": said,
    }
