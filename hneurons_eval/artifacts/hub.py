"""Neuron sets and probes on the Hub, and in local directories that look alike.

```python
url = push(probe, "me/llama-3.1-8b-h-neurons", about=About(data="TriviaQA", metrics={"auroc": 0.84}))
probe = Probe.from_pretrained("me/llama-3.1-8b-h-neurons", revision="v1")   # or a directory
neurons = NeuronSet.from_pretrained("me/llama-3.1-8b-h-neurons")            # of either kind of repository
```

A repository of neurons holds `neurons.json`; one of a probe `probe.json` and `weights.safetensors`, and of an L1 probe
its neurons as well. Both have a card. Nothing in them is executed on loading, and nothing else is fetched.
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.util.cards import PAPER, TAGS, by_layer, card, facts, how_chosen, is_hub_id
from hneurons_eval.util.files import write_text_atomically

NEURONS, CARD = "neurons.json", "README.md"
PROBE = ("probe.json", "weights.safetensors")


class HubError(ValueError):
    """A repository that cannot be read or written; says what to do."""


@dataclass(frozen=True)
class About:
    """What a card says beside what the neurons or the probe know of themselves.

    Attributes:
        revision: commit of the model on the Hub.
        fingerprint: of the model's content (`checkpoints.fingerprint`).
        data: what they were found in, and tried on.
        metrics: figures, by name.
        neurons: those of a probe, where more is known of them than the probe knows (their stability).
    """

    revision: str | None = None
    fingerprint: str | None = None
    data: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    neurons: NeuronSet | None = None


def write_repository(
    thing: NeuronSet | Probe, directory: str | Path, about: About | None = None, name: str | None = None
) -> None:
    """Write what `push` uploads: the files of a neuron set or probe, and the card.

    Args:
        thing: a neuron set or probe.
        directory: where to.
        about: what the card should say further.
        name: of the repository; default the directory.

    Raises:
        HubError: neurons in `about` that are not the probe's.
        ProbeError: a probe that is not fitted.
    """
    target, about = Path(directory), about or About()
    target.mkdir(parents=True, exist_ok=True)
    neurons = thing if isinstance(thing, NeuronSet) else None
    if isinstance(thing, Probe):
        thing.save(target)
        if thing.penalty_ == "l1":
            neurons = about.neurons or thing.neurons("both")
            if neurons != thing.neurons("both"):
                raise HubError("the neurons in `about` are not those of the probe; leave them out")
    if neurons is not None:
        neurons.save(target / NEURONS)
    write_text_atomically(target / CARD, _card(thing, neurons, about, name or str(directory)))


def push(
    thing: NeuronSet | Probe,
    repo_id: str,
    *,
    about: About | None = None,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
) -> str:
    """Upload a neuron set or probe with its card to a repository of the Hub, which is made if it is not there.

    The token is the one that `hf auth login` keeps, or `HF_TOKEN`.

    Args:
        thing: what to publish.
        repo_id: `owner/name`.
        about: what the card should say further.
        private: make the repository private, if it is made.
        revision: branch to commit to; default main.
        message: of the commit.

    Returns:
        Address of the commit.

    Raises:
        HubError: not the name of a repository, or the Hub refused.
    """
    import huggingface_hub

    if not is_hub_id(repo_id):
        raise HubError(f"a repository on the Hub is named owner/name, found {repo_id!r}")
    kind = "probe" if isinstance(thing, Probe) else "neurons"
    with tempfile.TemporaryDirectory(prefix="hneurons-push-") as directory:
        write_repository(thing, directory, about, repo_id)
        try:
            api = huggingface_hub.HfApi(library_name="hneurons-eval")
            api.create_repo(repo_id, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=directory,
                revision=revision,
                commit_message=message or f"Upload {kind}",
            )
        except Exception as error:  # no token, no network, no right to write: what the client raises has no one class
            raise HubError(
                f"cannot write to {repo_id} on the Hub: {_reason(error)}; log in with `hf auth login`, or set HF_TOKEN"
            ) from error
    return str(done.commit_url)


def load(name: str | Path, revision: str | None = None) -> NeuronSet | Probe:
    """The probe in a repository of the Hub or a local directory, or the neurons where it holds no probe.

    Raises:
        HubError, NeuronSetError, ProbeError: as `load_neurons` and `load_probe`.
    """
    directory = _directory(name, revision)
    return load_probe(directory) if (directory / PROBE[0]).is_file() else load_neurons(directory)


def load_neurons(name: str | Path, revision: str | None = None) -> NeuronSet:
    """The neurons in a repository of the Hub or a local directory, of neurons or of a probe.

    Raises:
        HubError: no such directory or repository, or it holds neither.
        NeuronSetError, ProbeError: what it holds cannot be read.
    """
    directory = _directory(name, revision)
    if (directory / NEURONS).is_file():
        return NeuronSet.load(directory / NEURONS)
    if (directory / PROBE[0]).is_file():
        return Probe.load(directory).neurons("both")
    raise HubError(f"{name} holds neither {NEURONS} nor {PROBE[0]}; it is no repository of neurons or of a probe")


def load_probe(name: str | Path, revision: str | None = None) -> Probe:
    """The probe in a repository of the Hub or a local directory.

    Raises:
        HubError: no such directory or repository, or it holds no probe.
        ProbeError: it cannot be read.
    """
    directory = _directory(name, revision)
    if not (directory / PROBE[0]).is_file():
        raise HubError(f"{name} holds no {PROBE[0]}; it is no repository of a probe")
    return Probe.load(directory)


def _directory(name: str | Path, revision: str | None) -> Path:
    """A local directory as it is; of a repository the files that are ours, in the Hub's cache."""
    import huggingface_hub

    text = str(name)
    local = Path(os.path.expanduser(text))
    if text and os.path.isdir(local):  # an empty name would be the working directory
        if revision is not None:
            raise HubError(f"{text} is a local directory, which has no revision {revision!r}; leave it out")
        return local
    if not is_hub_id(text):
        raise HubError(f"{text!r} is neither a local directory nor a repository on the Hub (owner/name)")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                text, revision=revision, allow_patterns=[NEURONS, *PROBE, CARD], library_name="hneurons-eval"
            )
        )
    except Exception as error:  # not found, no network, no right to read: what the client raises has no one class
        at = f" at {revision}" if revision else ""
        raise HubError(f"cannot get {text}{at} from the Hub: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ---- the card ------------------------------------------------------------------------------------


def _card(thing: NeuronSet | Probe, neurons: NeuronSet | None, about: About, name: str) -> str:
    model = thing.model
    head: dict[str, Any] = {
        "library_name": "hneurons-eval",
        "base_model": model if is_hub_id(model) else None,
        "tags": list(TAGS),
    }
    widths = thing.widths
    rows: list[tuple[str, object]] = [
        ("model", model),
        ("model revision", about.revision),
        ("model fingerprint", about.fingerprint),
        ("layers", None if not widths else f"{len(widths)}, {sum(widths):,} neurons"),
    ]
    if neurons is not None:
        share = f" ({1000 * len(neurons) / sum(widths):.3f} per mille)" if widths else ""
        rows += [
            ("neurons with a weight", f"{neurons.count_by_sign}{share}"),
            ("digest of the neurons (SHA-256)", neurons.digest),
        ]
        if neurons.stability is not None and len(neurons):
            stable = int((neurons.stability > 0.5).sum())
            rows.append(("selected again on most halves of the questions", f"{stable:,}"))
    if isinstance(thing, Probe):
        rows += [("penalty", thing.penalty_), ("C", f"{thing.C_:g}"), ("threshold", f"{thing.threshold_:.4f}")]
    rows.append(("data", about.data))
    parts = [
        "Neurons of a language model whose contributions tell a hallucinated answer from a faithful one "
        f"([hneurons-eval](https://pypi.org/project/hneurons-eval/), after {PAPER}).",
        facts(rows),
    ]
    if about.metrics:
        parts += ["## Figures", facts([(name, f"{value:.4g}") for name, value in about.metrics.items()])]
    provenance = thing.metadata if isinstance(thing, Probe) else thing.provenance
    if told := how_chosen(provenance):
        parts += ["## How they were chosen", facts(told)]
    if neurons is not None and len(neurons):
        parts += ["## Neurons by layer", by_layer(neurons.layers, neurons.widths)]
    kind, variable = ("Probe", "probe") if isinstance(thing, Probe) else ("NeuronSet", "neurons")
    parts += [
        "## Use",
        f"""```python
from hneurons_eval import {kind}

{variable} = {kind}.from_pretrained("{name}")
```

`hneurons neurons pull {name} OUT` brings it here, and `-M neurons=OUT -M alpha=0` into any Inspect task; that scales
the neurons with a positive weight, the H-neurons (`-M sign=negative` or `both`: the others, or all).""",
    ]
    found = "Neurons of" if isinstance(thing, NeuronSet) else "Hallucination probe for"
    return card(head, f"{found} {model or 'a model'}", *parts)
