"""What `probe=` and `neurons=` may name: the log of the probe task, a probe directory, or a neuron file."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspect_ai.model import get_model

from hneurons_eval.artifacts.logs import check_same_model, model_layout, read_stage, samples_of
from hneurons_eval.artifacts.paths import find_neurons
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.util.errors import UsageError, usage_errors

if TYPE_CHECKING:
    from hneurons_eval.probe.classifier import Probe


@dataclass(frozen=True)
class ProbeSource:
    """A trained probe, where it is, and over what kind of region it was trained."""

    probe: "Probe"
    directory: str
    reduce: str
    summary: dict[str, Any]


def probe_from(reference: str, same_model: bool = True) -> ProbeSource:
    """The probe that a probe log or a probe directory names.

    Args:
        reference: the log or the directory.
        same_model: whether a log must be of the model being evaluated, and not only of one with the same layers.

    Raises:
        UsageError: it cannot be read, or is of another model, or of one with other layers.
    """
    if not reference:
        raise UsageError("probe is missing; give the log of the probe task or a probe directory: -T probe=LOG")
    from hneurons_eval.probe.classifier import Probe

    path = Path(str(reference))
    with usage_errors():
        if path.is_dir() and (path / "probe.json").is_file():
            loaded = Probe.load(path)
            _check_layout(loaded)
            reduce = str(loaded.metadata.get("reduce", "mean"))
            return ProbeSource(loaded, str(path), reduce, {"directory": str(path), "C": loaded.C_})
        log = read_stage(reference, "probe", "probe")
        if same_model:
            check_same_model(log, "probe")
        summary = probe_summary(log)
        loaded = Probe.load(summary["directory"])
        _check_layout(loaded)
        return ProbeSource(
            loaded,
            summary["directory"],
            str((log.eval.metadata or {}).get("reduce", "mean")),
            summary,
        )


def neurons_from(reference: str) -> tuple[NeuronSet, str]:
    """As `named_neurons`, of the model being evaluated.

    Raises:
        UsageError: as `named_neurons`, or they are of a model with other layers.
    """
    neurons, name = named_neurons(reference)
    with usage_errors():
        neurons.check(model_layout(), get_model().name)
    return neurons, name


def named_neurons(reference: str) -> tuple[NeuronSet, str]:
    """The neurons that a probe log, a probe directory, a neuron file or a digest names, and that name.

    Raises:
        UsageError: they cannot be read, or there are none.
    """
    if not reference:
        raise UsageError("neurons is missing; give a neuron file, a probe directory or the log of the probe task")
    with usage_errors():
        path = Path(str(reference))
        is_log = path.suffix == ".eval" or (path.is_dir() and not (path / "probe.json").is_file())
        if is_log:
            summary = probe_summary(read_stage(reference, "probe", "neurons"))
            if "neurons_file" not in summary:
                raise UsageError(f"{reference} is of an L2 probe, which selects no neurons; train with penalty=l1")
            reference = summary["neurons_file"]
        neurons = find_neurons(reference)
        if not len(neurons):
            raise UsageError(f"{reference} holds no neurons; train with a larger C")
        return neurons, str(reference)


def probe_directory_of(reference: str) -> Path | None:
    """The directory of the probe that neurons come from, where it can be found from what names them.

    A neuron file that stands beside its probe's directory names it by its own name.
    """
    path = Path(str(reference))
    if (path / "probe.json").is_file():
        return path
    if path.name.endswith(".neurons.json"):
        beside = path.with_name(path.name.removesuffix(".neurons.json"))
        return beside if (beside / "probe.json").is_file() else None
    if path.suffix == ".eval" or path.is_dir():
        found = Path(str(probe_summary(read_stage(reference, "probe", "neurons")).get("directory", "")))
        return found if (found / "probe.json").is_file() else None
    return None


def probe_summary(log: Any) -> dict[str, Any]:
    """The account of the probe that its log's samples carry.

    Raises:
        UsageError: the log has none.
    """
    for sample in samples_of(log):
        # A sample that Inspect recovers from a killed process keeps its scores, but not its output.
        kept = [score.metadata or {} for score in (sample.scores or {}).values()]
        for details in ((sample.output.metadata or {}).get("hneurons", {}), *kept):
            if details.get("probe"):
                return dict(details["probe"])
    raise UsageError(f"{log.location} has no fitted probe; run the probe task again")


def _check_layout(probe: "Probe") -> None:
    theirs, layout = NeuronLayout(tuple(probe.widths)), model_layout()
    if theirs != layout:
        raise UsageError(
            f"the probe is of {probe.model or 'a model'} with {theirs}, but {get_model().name} has {layout}; "
            "use a probe of a model with the same layers"
        )
