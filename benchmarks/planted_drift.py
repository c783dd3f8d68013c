"""Does `drift` rank what was planted: neurons that were trained as changed, frozen ones as unchanged?

    python benchmarks/planted_drift.py --neurons NEURONS.json --work /tmp/planted
    python benchmarks/planted_drift.py --work /tmp/planted --steps 2      # a random set; to see that all of it runs

Fine-tunes the MLP matrices (up, gate, down) of the bundled model on the bundled facts (question and right answer, chat
template, loss on the answer alone; AdamW, no weight decay), three times from the same weights:

- free: every neuron is trained;
- frozen: every neuron but those of the set, whose gradients are masked;
- planted: none but 100 drawn at random that are not in the set.

Then measures the drift of each checkpoint and ranks the set and the planted neurons. The checkpoints stay in --work
(free also at each third of the steps, for the timeline), the figures go to docs/planted_drift.json.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hneurons_eval.analysis.drift import measure
from hneurons_eval.analysis.drift_ranks import rank_neurons
from hneurons_eval.data.questions import ANSWER_ONLY, load_questions
from hneurons_eval.models.architecture import neuron_layout
from hneurons_eval.models.checkpoints import BUNDLED, load_model, load_tokenizer, resolve_model
from hneurons_eval.models.controls import random_sets
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.weights.vectors import neuron_vectors

ROOT = Path(__file__).resolve().parents[1]
SIZE = 100
"""Planted neurons, and those of the set where none is given."""


def batches(tokenizer: Any, steps: int, batch: int, seed: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Token ids, attention mask and labels `[batch, tokens]` of each step."""
    rng = np.random.default_rng(seed)
    questions = load_questions("facts")
    found = []
    for _ in range(steps):
        rows = []
        for number in rng.choice(len(questions), batch, replace=False):
            question = questions[int(number)]
            turns = [{"role": "user", "content": question.question + ANSWER_ONLY}]
            prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            answer = tokenizer(question.aliases[0] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
            rows.append((asked + answer, [-100] * len(asked) + answer))
        width = max(len(ids) for ids, _ in rows)
        ids, labels = torch.zeros(batch, width, dtype=torch.long), torch.full((batch, width), -100)
        mask = torch.zeros(batch, width, dtype=torch.long)
        for number, (own, wanted) in enumerate(rows):
            ids[number, : len(own)], labels[number, : len(own)] = torch.tensor(own), torch.tensor(wanted)
            mask[number, : len(own)] = 1
        found.append((ids, mask, labels))
    return found


def train(trained: np.ndarray, options: argparse.Namespace, name: str, keep_steps: bool = False) -> list[Path]:
    """Fine-tune the MLP vectors of some neurons, bool `[neurons]`; the checkpoints, the last one last."""
    model: Any = load_model(BUNDLED, dtype="float32")
    tokenizer: Any = load_tokenizer(BUNDLED)
    layout = neuron_layout(model)
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    masks = []
    for number, (part,) in enumerate(neuron_vectors(model)):
        start = int(layout.starts[number])
        for vectors in part.vectors.values():
            parameter = parameters[vectors.parameter].requires_grad_(True)
            mask = torch.zeros_like(parameter)
            vectors.of(mask)[torch.from_numpy(trained[start : start + part.width])] = 1
            masks.append((parameter, mask))
    optimiser = torch.optim.AdamW([parameter for parameter, _ in masks], lr=options.rate, weight_decay=0.0)
    kept: list[Path] = []
    for step, (ids, mask, labels) in enumerate(batches(tokenizer, options.steps, options.batch, options.seed), start=1):
        began = time.monotonic()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        for parameter, own in masks:
            parameter.grad.mul_(own)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        print(f"{name} step {step}: loss {loss.item():.3f}, {time.monotonic() - began:.1f} s", flush=True)
        if step == options.steps or (keep_steps and step % max(1, options.steps // 3) == 0):
            kept.append(options.work / (name if step == options.steps else f"{name}-step{step}"))
            model.save_pretrained(kept[-1])
            tokenizer.save_pretrained(kept[-1])
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=Path, help="the set; default 100 drawn at random")
    parser.add_argument("--work", type=Path, required=True, help="directory for the checkpoints, 0.5 GB each")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="file for the figures")
    options = parser.parse_args()
    layout = neuron_layout(load_model(BUNDLED, dtype="float32"))
    if options.neurons is None:
        chosen = NeuronSet.from_flat(random_sets(layout.widths, SIZE, 1, options.seed)[0], layout, model=BUNDLED)
    else:
        chosen = NeuronSet.load(options.neurons).positive
    flat = chosen.flat(layout)
    planted = NeuronSet.from_flat(random_sets(layout.widths, SIZE, 1, options.seed + 1, flat)[0], layout, model=BUNDLED)
    planted.save(options.work / "planted.neurons.json")
    everything = np.ones(layout.total, np.bool_)
    but_chosen, only_planted = everything.copy(), ~everything
    but_chosen[flat] = False
    only_planted[planted.flat(layout)] = True
    began = time.monotonic()
    runs = {
        "free": train(everything, options, "free", keep_steps=True),
        "frozen": train(but_chosen, options, "frozen"),
        "planted": train(only_planted, options, "planted"),
    }
    seconds = time.monotonic() - began
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, (*_, last) in runs.items():
        moved = measure(resolve_model(BUNDLED), last)
        results[name] = {
            label: rank_neurons(moved, own, seed=options.seed).figures()
            for label, own in (("set", chosen), ("planted", planted))
        }
        for label, figures in results[name].items():
            print(
                f"{name:8} {label:8} mean rank {figures['mean_rank']:.4f} [{figures['mean_rank_low']:.4f}, "
                f"{figures['mean_rank_high']:.4f}], p changed {figures['uniform_p_changed']:.4f}, unchanged "
                f"{figures['uniform_p_unchanged']:.4f}; {100 * figures['changed']:.0f} % of them changed, "
                f"{100 * figures['changed_all']:.1f} % of all",
                flush=True,
            )
    report = {
        "neurons": len(chosen),
        "steps": options.steps,
        "batch": options.batch,
        "rate": options.rate,
        "seconds": round(seconds),
        "results": results,
    }
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
