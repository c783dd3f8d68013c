"""The README.md of an exported checkpoint or adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hneurons_eval import __version__
from hneurons_eval.models.checkpoints import BUNDLED
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.util.cards import PAPER, TAGS, by_layer, card, facts, how_chosen, is_hub_id, licence_in
from hneurons_eval.util.files import NEURONS

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`."""


@dataclass(frozen=True)
class Origin:
    """The model that something was exported from."""

    model: str  # Hub id, bundled name, or the directory as given
    load_from: str  # Hub id, bundled name, or the whole path of a directory
    directory: Path  # where its files were read
    revision: str | None  # commit, of a Hub id
    fingerprint: str  # of its content
    auto_class: str  # class of transformers that loads it
    total: int  # its neurons


def checkpoint_card(origin: Origin, neurons: NeuronSet, alpha: float, name: str) -> str:
    """The card of a checkpoint in a directory of that name."""
    return card(
        _head(origin, "transformers", "finetune"),
        f"{origin.model}, {len(neurons):,} neurons scaled by {alpha:g}",
        "The columns of the MLP down projections that belong to the neurons in "
        f"`{NEURONS}` were multiplied by {alpha:g}, which is scaling these neurons ({PAPER}). {_meaning(alpha)} Every "
        "other weight is the base model's, bit for bit; nothing was trained.",
        *_summary(origin, neurons, alpha),
        "## Use",
        "Like the base model, with any program that reads it:",
        f"""```python
from transformers import {origin.auto_class}, AutoTokenizer

model = {origin.auto_class}.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```""",
        f"""```sh
vllm serve {name}
lm_eval --model hf --model_args pretrained={name} --tasks TASK
```""",
    )


def adapter_card(origin: Origin, neurons: NeuronSet, alpha: float, name: str, rank: int) -> str:
    """The card of an adapter in a directory of that name."""
    least = next((allowed for allowed in VLLM_RANKS if allowed >= rank), None)
    base, served, imports = f'"{origin.load_from}"', origin.load_from, ""
    if origin.load_from == BUNDLED:  # a checkpoint of this package's cache, somewhere else on every machine
        base, imports = f'resolve_model("{BUNDLED}")', "from hneurons_eval import resolve_model\n"
        served = f"$(python -c 'import hneurons_eval; print(hneurons_eval.resolve_model(\"{BUNDLED}\"))')"
    serve = (
        f"vllm serve {served} --enable-lora --max-lora-rank {least} --lora-modules scaled={name}"
        if least
        else f"# vLLM takes ranks up to {VLLM_RANKS[-1]}: export the checkpoint itself (without --lora)"
    )
    return card(
        _head(origin, "peft", "adapter"),
        f"{origin.model}, {len(neurons):,} neurons scaled by {alpha:g}: adapter",
        f"A LoRA adapter of rank {rank} on the MLP down projections that scales the neurons in `{NEURONS}` by "
        f"{alpha:g} ({PAPER}). {_meaning(alpha)} Nothing was trained: A picks the neurons, B holds (alpha - 1) times "
        "their columns.",
        *_summary(origin, neurons, alpha),
        "## Use",
        f"""```python
{imports}from peft import PeftModel
from transformers import {origin.auto_class}

model = PeftModel.from_pretrained({origin.auto_class}.from_pretrained({base}), "{name}")
```""",
        f"```sh\n{serve}\n```",
    )


def _head(origin: Origin, library: str, relation: str) -> dict[str, Any]:
    """Head of a card, which the Hub reads."""
    base = origin.load_from if is_hub_id(origin.load_from) else None
    return {
        "library_name": library,
        "pipeline_tag": "text-generation",
        "base_model": base,
        "base_model_relation": relation if base else None,
        "tags": list(TAGS),
        **licence_in(origin.directory),
    }


def _summary(origin: Origin, neurons: NeuronSet, alpha: float) -> list[str]:
    """The part of both kinds of card: base model, neurons, and how they were chosen."""
    made = facts(
        [
            ("base model", origin.model),
            ("revision", origin.revision),
            ("fingerprint", origin.fingerprint),
            ("neurons", f"{len(neurons):,} of {origin.total:,}"),
            ("digest of the neurons (SHA-256)", neurons.digest),
            ("alpha", f"{alpha:g}"),
            ("written by", f"hneurons-eval {__version__}"),
        ]
    )
    kept = neurons.without_questions()
    chosen = [facts([("found in", neurons.model), *how_chosen(kept.provenance)])]
    if "training_questions" in neurons.provenance:
        chosen.append(f"The training questions themselves are left out of `{NEURONS}`.")
    return [made, "## Neurons by layer", by_layer(neurons.layers, neurons.widths), "## How they were chosen", *chosen]


def _meaning(alpha: float) -> str:
    if alpha == 0:
        return "Alpha 0 switches the neurons off."
    if alpha == 1:
        return "Alpha 1 is the baseline: this is the base model."
    return f"Alpha {alpha:g} {'amplifies' if alpha > 1 else 'dampens'} the neurons."
