"""Cards: what a published file is and where it comes from, as markdown with a head that the Hub reads.

```python
text = card({"base_model": "org/model", "tags": ["hneurons"]}, "Title", "A paragraph.", table(...))
```
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hneurons_eval.util.markdown import table

TAGS = ("hneurons", "hallucination", "interpretability")
PAPER = "[Gao et al. 2025](https://arxiv.org/abs/2512.01797)"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LICENCE_KEYS = ("license", "license_name", "license_link")
_LONGEST_VALUE = 200
"""Characters of a value of the provenance that a card shows."""


def is_hub_id(name: str | None) -> bool:
    """Whether a name has the form `owner/name` of the Hub."""
    return name is not None and _HUB_ID.fullmatch(name) is not None


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
