"""What a user may name where neurons or a probe are wanted: a file, a directory, a digest, or the log of a run."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hneurons_eval.models.neuron_set import NeuronSet

if TYPE_CHECKING:
    from hneurons_eval.probe.classifier import Probe


@dataclass(frozen=True)
class Named:
    """What a name leads to.

    Attributes:
        name: as given.
        neurons: the neuron set; None of an L2 probe, which selects none.
        probe: the probe they are of, where there is one.
        log: the log of the `probe` task that was named.
        directory: of the probe, where there is one.
    """

    name: str
    neurons: NeuronSet | None
    probe: "Probe | None" = None
    log: Any = None
    directory: Path | None = None


def named(reference: str) -> Named:
    """The neurons or probe that a neuron file, a directory, a digest, or the log of the `probe` task names.

    A directory is that of a probe, one that `hneurons neurons pull` or the Hub's client has brought, or one of logs.

    Raises:
        UsageError: it leads to nothing that can be read.
    """
    from hneurons_eval.artifacts.hub import NEURONS, PROBE
    from hneurons_eval.artifacts.paths import find_neurons
    from hneurons_eval.util.errors import usage_errors

    path = Path(reference)
    with usage_errors():
        if (path / PROBE[0]).is_file():
            beside = path.parent / f"{path.name}.neurons.json"
            return _of_probe(reference, path, beside if beside.is_file() else path / NEURONS)
        if (path / NEURONS).is_file():
            return Named(reference, NeuronSet.load(path / NEURONS))
        if path.suffix == ".eval" or path.is_dir():
            from hneurons_eval.artifacts.logs import read_stage
            from hneurons_eval.artifacts.references import probe_summary

            log = read_stage(reference, "probe", "the name")
            summary = probe_summary(log)
            file = summary.get("neurons_file")
            found = _of_probe(reference, Path(summary["directory"]), Path(file) if file else None)
            return replace(found, log=log)
        return Named(reference, find_neurons(reference))


def _of_probe(name: str, directory: Path, file: Path | None) -> Named:
    """A probe with its neurons, from the file that says how stable they are where it is of this probe."""
    from hneurons_eval.probe.classifier import Probe

    probe = Probe.load(directory)
    if probe.penalty_ != "l1":
        return Named(name, None, probe, directory=directory)
    neurons = probe.neurons("both")
    if file is not None and file.is_file() and (kept := NeuronSet.load(file)) == neurons:
        neurons = kept
    return Named(name, neurons, probe, directory=directory)
