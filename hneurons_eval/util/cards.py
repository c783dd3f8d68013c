"""Model cards: what a published directory holds and where it comes from, as markdown with a head for the Hub.

```python
text = card({"base_model": "org/model", "tags": ["hneurons"]}, "Title", "A paragraph.", table(...))
```
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hneurons_eval.util.markdown import table

TAGS = ("hneurons", "hallucination", "interpretability")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PAPER = "[Gao et al. 2025](https://arxiv.org/abs/2512.01797)"
_LICENCE_KEYS = ("license", "license_name", "license_link")
_LONGEST_VALUE = 200
"""Characters of a value of the provenance that a card shows."""


def is_hub_id(name: str | None) -> bool:
    """Whether a name has the form `owner/name` of the Hub."""
    return name is not None and _HUB_ID.fullmatch(name) is not None


@dataclass(frozen=True)
class About:
    """What the card of neurons or of a probe says beside what their files say.

    Attributes:
        revision: commit of the model on the Hub.
        fingerprint: of the model's content (`checkpoints.fingerprint`).
        data: the question sets.
        metrics: figures, by name.
    """

    revision: str | None = None
    fingerprint: str | None = None
    data: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def repository_card(
    kind: str,
    name: str,
    about: About,
    model: str | None,
    widths: Sequence[int] | None,
    rows: Sequence[tuple[str, object]],
    provenance: Mapping[str, Any],
    layers: ArrayLike | None,
) -> str:
    """The card of a repository of neurons or of a probe.

    Args:
        kind: class that reads it, `NeuronSet` or `Probe`.
        name: of the repository.
        about: what its files do not say.
        model: that it is of, if known.
        widths: neurons of each layer, if known.
        rows: facts about the neurons or the probe.
        provenance: how they were chosen.
        layers: of each neuron; None where none are selected.
    """
    head = {
        "library_name": "hneurons-eval",
        "base_model": model if is_hub_id(model) else None,
        "tags": list(TAGS),
    }
    known = [
        ("model", model),
        ("model revision", about.revision),
        ("model fingerprint", about.fingerprint),
        ("layers", f"{len(widths)}, {sum(widths):,} neurons" if widths else None),
        *rows,
        ("data", about.data),
    ]
    parts = [
        "Neurons of a language model whose contributions tell a hallucinated answer from a faithful one "
        f"([hneurons-eval](https://pypi.org/project/hneurons-eval/), after {PAPER}).",
        facts(known),
    ]
    if about.metrics:
        parts += ["## Figures", facts([(name, f"{value:.4g}") for name, value in about.metrics.items()])]
    if told := how_chosen(provenance):
        parts += ["## How they were chosen", facts(told)]
    if layers is not None and np.size(layers):
        parts += ["## Neurons by layer", by_layer(layers, widths)]
    variable, title = {"Probe": ("probe", "Hallucination probe for"), "NeuronSet": ("neurons", "Neurons of")}[kind]
    parts += [
        "## Use",
        f"""```python
from hneurons_eval import {kind}

{variable} = {kind}.from_pretrained("{name}")
```

`-M neurons={name} -M alpha=0` switches these neurons off in any Inspect task: those with a positive weight, the
H-neurons (`-M sign=negative` or `both`: the others, or all).""",
    ]
    return card(head, f"{title} {model or 'a model'}", *parts)


def card(head: Mapping[str, Any], title: str, *parts: str) -> str:
    """A card's text.

    Args:
        head: what the Hub reads; values are JSON, which is YAML as well. None is left out.
        title: of the page.
        parts: markdown.
    """
    lines = [
        f"{key}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in head.items()
        if value is not None
    ]
    return "\n".join(["---", *lines, "---", "", "\n\n".join([f"# {one_line(title)}", *parts]), ""])


def facts(rows: Sequence[tuple[str, object]]) -> str:
    """A table of named facts; those that are None are left out."""
    shown = [[name, one_line(str(value))] for name, value in rows if value is not None]
    return table(["", ""], shown)


def by_layer(layers: ArrayLike, widths: Sequence[int] | None) -> str:
    """Number of neurons in each layer, as a table.

    Args:
        layers: of each neuron.
        widths: neurons of each layer of the model, if they are known.
    """
    numbers, counts = np.unique(np.asarray(layers), return_counts=True)
    rows = [
        [str(layer), str(count), "" if widths is None else f"{widths[layer]:,}"]
        for layer, count in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]
    return table(["layer", "neurons", "of"], rows)


def how_chosen(provenance: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What a provenance says in few words: its texts and numbers; of longer things how many entries they have."""
    rows: list[tuple[str, object]] = []
    for name, value in provenance.items():
        if isinstance(value, str | int | float):
            rows.append((name.replace("_", " "), str(value)[:_LONGEST_VALUE]))
        elif isinstance(value, list | dict):
            rows.append((name.replace("_", " "), f"{len(value)} entries"))
    return rows


def licence_in(directory: Path) -> dict[str, str]:
    """The licence that the card in a directory names, for the head of another card; nothing where it names none."""
    from huggingface_hub.repocard import metadata_load

    path = directory / "README.md"
    try:
        head = metadata_load(path) if path.is_file() else None
    except Exception:  # somebody else's card, with whatever a YAML parser trips over
        return {}
    return {key: head[key] for key in _LICENCE_KEYS if isinstance(head, dict) and isinstance(head.get(key), str)}


def one_line(text: str) -> str:
    """A text as one line of a table or heading, so that nothing in it is taken for markup."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", plain)
