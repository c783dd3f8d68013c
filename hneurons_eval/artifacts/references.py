"""The one resolver: what neurons, probe and log a reference names, wherever neurons or a probe are wanted.

```python
found = resolve("logs/probe")                    # the newest log of the task `probe` there
found.neurons, found.probe, found.directory, found.log
neurons_to_scale("owner/name@v1", "negative")    # from the Hub
```

A reference is a neuron file, a probe directory, a directory with a `neurons.json`, the digest of a kept neuron set, a
log of the task `probe` or a directory of logs, or a Hub id (`owner/name`, `owner/name@revision`).
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hneurons_eval.artifacts.logs import check_same_model, is_log, model_layout, probe_summary, read_stage
from hneurons_eval.artifacts.paths import artifact_root, is_key, kept_neurons
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.util.cards import is_hub_id
from hneurons_eval.util.errors import UsageError, usage_errors
from hneurons_eval.util.files import NEURONS, PROBE, PROBE_FILES
from hneurons_eval.util.hub import fetch

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

    from hneurons_eval.probe.classifier import Probe

KINDS = "a neuron file, a probe directory, a log of the probe task or a directory of logs, a digest, or a Hub id"


@dataclass(frozen=True, eq=False)
class Reference:
    """What a reference names.

    Attributes:
        name: as given.
        file: of the neurons where they have one, else the name; for a log.
        neurons: of either sign, with their weights; None of an L2 probe, which selects none.
        probe: of a probe directory or a log.
        directory: of the probe; also of a neuron file in it.
        log: of the task `probe`, where the reference is one.
        summary: what a log says of the probe.
        digest: whether the name is the digest of a set that was kept to be scaled.
    """

    name: str
    file: str
    neurons: NeuronSet | None
    probe: "Probe | None" = None
    directory: Path | None = None
    log: "EvalLog | None" = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    digest: bool = False

    @property
    def reduce(self) -> str:
        """How the probe's contributions were reduced over tokens."""
        return "mean" if self.probe is None else str(self.probe.metadata.get("reduce", "mean"))

    @property
    def fitted(self) -> "Probe":
        """The probe.

        Raises:
            UsageError: the reference names neurons only.
        """
        if self.probe is None:
            raise UsageError(f"{self.name} holds neurons and no probe; give the probe's directory or log")
        return self.probe

    def signed(self, sign: str = "positive") -> NeuronSet:
        """The neurons with weights of one sign; of a digest all, since those were kept to be scaled.

        Raises:
            UsageError: an L2 probe, neurons of which none has that sign, or another sign.
        """
        if self.neurons is None:
            raise UsageError(f"{self.name} is of an L2 probe, which selects no neurons; train with penalty=l1")
        if self.digest or not len(self.neurons):
            return self.neurons
        with usage_errors():
            chosen = self.neurons.of_sign(sign)
        if not len(chosen):
            raise UsageError(
                f"{self.name} holds {len(self.neurons)} neurons, none of them with a {sign} weight; choose another sign"
            )
        return chosen

    def chosen(self, sign: str = "positive") -> NeuronSet:
        """As `signed`, and at least one.

        Raises:
            UsageError: as `signed`, or no neurons.
        """
        found = self.signed(sign)
        if not len(found):
            raise UsageError(f"{self.name} holds no neurons; train with a larger C")
        return found


def resolve(reference: str | Path, parameter: str = "", near: Sequence[str | Path] = ()) -> Reference:
    """What a reference names.

    Args:
        reference: see the module's docstring.
        parameter: of the task or command that it was given as, for messages.
        near: logs that hold the reference: relative paths are also looked for above them, and the Hub is not asked.

    Raises:
        UsageError: it names nothing that can be read.
    """
    name = str(reference)
    shown = f"{parameter}={name}" if parameter else name
    if not name:
        raise UsageError(f"{parameter or 'the reference'} is missing; give {KINDS}")
    with usage_errors():
        if is_key(name):
            return Reference(name, name, kept_neurons(name), digest=True)
        path = located(name, near)
        if path is None:
            path = _from_hub(name, shown, bool(near))
        if path.is_dir():
            if (path / PROBE).is_file():
                return _of_probe(name, path)
            if (path / NEURONS).is_file():
                return Reference(name, str(path / NEURONS), NeuronSet.load(path / NEURONS))
            if not any(path.glob("*.eval")) and not any(path.glob("*.json")):
                raise UsageError(f"{shown} is a directory without {PROBE}, {NEURONS} or logs; give {KINDS}")
        elif not is_log(path):
            inside = path.name == NEURONS and (path.parent / PROBE).is_file()
            return Reference(name, str(path), NeuronSet.load(path), directory=path.parent if inside else None)
        log = read_stage(str(path), "probe", parameter)
        summary = probe_summary(log)
        if not summary:
            raise UsageError(f"{log.location} has no fitted probe; run the probe task again")
        directory = located(str(summary["directory"]), [log.location])
        if directory is None:
            raise UsageError(
                f"{summary['directory']}, the probe of {log.location}, is not there; set HNEURONS_ARTIFACTS to the "
                "artifacts of that run, or work in the directory in which it was made"
            )
        return _of_probe(name, directory, log, summary)


def resolve_probe(reference: str, parameter: str = "probe", same_model: bool | None = None) -> Reference:
    """As `resolve`, of a probe.

    Args:
        reference: see the module's docstring.
        parameter: that it was given as.
        same_model: None: any probe. Otherwise one of the layers of the evaluated model; with True, a log has to be of
            that model.

    Raises:
        UsageError: as `resolve`, no probe, or one of another model.
    """
    found = resolve(reference, parameter)
    probe = found.fitted
    if same_model and found.log is not None:
        check_same_model(found.log, parameter)
    if same_model is not None:
        theirs, ours = NeuronLayout(tuple(probe.widths)), model_layout()
        if theirs != ours:
            from inspect_ai.model import get_model

            raise UsageError(
                f"the probe is of {probe.model or 'a model'} with {theirs}, but {get_model().name} has {ours}; "
                "use a probe of a model with the same layers"
            )
    return found


def neurons_to_scale(reference: str | Path, sign: str = "positive") -> NeuronSet:
    """The neurons that are scaled where a reference names some; a file is read again only where it was rewritten.

    Args:
        reference: see the module's docstring.
        sign: of the weights; `positive` are the H-neurons, which the paper scales.

    Raises:
        UsageError: as `resolve` and `Reference.signed`.
    """
    return _neurons_to_scale(str(reference), sign, on_disk(reference))


@functools.lru_cache(maxsize=4096)
def _neurons_to_scale(reference: str, sign: str, _: tuple[tuple[int, int], ...]) -> NeuronSet:
    return resolve(reference, "neurons").signed(sign)


def on_disk(reference: str | Path) -> tuple[tuple[int, int], ...]:
    """Modification time and size of a file, or of a directory and its files of a probe: the key of a cache."""
    found = []
    for name in ("", *PROBE_FILES):
        try:
            status = os.stat(os.path.join(reference, name) if name else reference)
        except (OSError, ValueError):
            continue
        found.append((status.st_mtime_ns, status.st_size))
    return tuple(found)


def located(name: str, near: Sequence[str | Path] = ()) -> Path | None:
    """A file or directory: as named, above the logs that name it, or among the artifacts; None where it is nowhere.

    A run writes its paths relative to where it was started.
    """
    return next((place for place in _places(Path(os.path.expanduser(name)), near) if os.path.exists(place)), None)


def _places(path: Path, near: Sequence[str | Path]) -> Iterator[Path]:
    yield path
    for log in near:
        if not path.is_absolute():
            yield from (parent / path for parent in Path(str(log).removeprefix("file://")).absolute().parents)
        yield artifact_root().joinpath(*path.parts[-3:])


def _from_hub(name: str, shown: str, in_log: bool) -> Path:
    repository, _, revision = name.partition("@")
    if in_log or not is_hub_id(repository) or Path(name).suffix in (".json", ".eval"):
        raise UsageError(f"{shown} does not exist; give {KINDS}")
    try:
        return fetch(repository, revision or None)
    except ValueError as error:
        raise UsageError(f"{shown} is no file or directory here, and not on the Hub: {error}") from error


def _of_probe(
    name: str, directory: Path, log: "EvalLog | None" = None, summary: Mapping[str, Any] | None = None
) -> Reference:
    """A probe with its neurons, which have their stability where `neurons.json` is of this probe."""
    from hneurons_eval.probe.classifier import Probe

    probe, file = Probe.load(directory), directory / NEURONS
    here = {"directory": str(directory), "neurons_file": str(file)}
    said = summary or {"directory": "", "C": probe.C_}
    about = {key: here.get(key, value) for key, value in said.items()}  # where it is now, if it was moved
    found = Reference(name, name if log is None else str(file), None, probe, directory, log, about)
    if probe.penalty_ != "l1":
        return found
    neurons = probe.neurons("both")
    if file.is_file() and (kept := NeuronSet.load(file)) == neurons:
        neurons = kept
    return replace(found, neurons=neurons)
