"""A sweep over seven alphas in one batch, against seven runs of the same engine and against the official way.

    python benchmarks/bench_sweep.py                   # 200 questions, 20 control sets
    python benchmarks/bench_sweep.py --questions 24 --controls 2 --tokens 24 --rounds 2

Three comparisons, each side in a process of its own, in turn, round after round:

- `separate`: the seven alphas one after the other, by the same engine in one process, each batch to its end.
- `official`: for each alpha a fresh load of the model, its weights multiplied in place, and transformers' batched
  `generate`, as the public scripts do it. Without control sets, which they do not have.
- `per token`: what an answer token of the whole sweep with its control sets costs, against a token of a plain batch of
  as many answers to other questions.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
SIZE = 40
BATCH = 64


def questions(count: int) -> list[str]:
    from hneurons_eval.data.behaviours import load_falseqa

    rows, _ = load_falseqa()
    texts = [row.question for row in rows]
    return [texts[number % len(texts)] + " " * (number // len(texts)) for number in range(count)]


def engine() -> Any:
    from hneurons_eval.engine.engine import get_engine

    return get_engine("smollm2-135m-instruct", dtype="float32", device="cpu")


def neuron_sets(layout: Any, number: int) -> list[Any]:
    from hneurons_eval import NeuronSet
    from hneurons_eval.models.controls import random_sets

    return [NeuronSet.from_flat(one, layout) for one in random_sets(layout.widths, SIZE, number, 0)]


def ours(count: int, tokens: int, controls: int, way: str) -> dict[str, float]:
    """Seconds, without loading, and tokens sampled. `way`: mixed, separate, or plain (all at the baseline)."""
    from inspect_ai.model import ChatMessageUser

    from hneurons_eval.data.questions import load_questions
    from hneurons_eval.engine.prompts import PromptFormat
    from hneurons_eval.engine.requests import GenerateRequest
    from hneurons_eval.engine.sampling import SamplingOptions
    from hneurons_eval.models.scaling import Intervention

    chosen = engine()
    form = PromptFormat(chosen.tokenizer)
    prompts = [form.encode([ChatMessageUser(content=text)]) for text in questions(count)]
    sets = neuron_sets(chosen.layout, 1 + controls)
    greedy = SamplingOptions(0.0, None, None)

    def request(prompt: tuple[int, ...], neurons: Any, alpha: float) -> GenerateRequest:
        return GenerateRequest(prompt, tokens, greedy, intervention=Intervention(neurons, alpha))

    conditions = [[(one, alpha) for one in (sets if alpha != 1 else sets[:1])] for alpha in ALPHAS]
    if way == "plain":
        # As many answers as the sweep has, none of them scaled, to as many other questions: answers to one question
        # would share what they have in common, which differently scaled ones cannot.
        total, facts = count * sum(len(one) for one in conditions), load_questions("facts")
        asked = facts[:: max(1, len(facts) // total)][:total]
        batches = [[request(form.encode([ChatMessageUser(content=one.question)]), None, 1.0) for one in asked]]
    else:
        groups = conditions if way == "separate" else [[pair for one in conditions for pair in one]]
        batches = [[request(prompt, *pair) for prompt in prompts for pair in group] for group in groups]
    for future in [chosen.generate(request(prompt, None, 1.0)) for prompt in prompts[:8]]:
        future.result()
    start, sampled = time.perf_counter(), 0
    for batch in batches:
        sampled += sum(len(future.result().tokens) for future in [chosen.generate(one) for one in batch])
    return {"seconds": time.perf_counter() - start, "tokens": sampled, "threads": chosen.threads}


def official(count: int, tokens: int, threads: int) -> dict[str, float]:
    """Seconds, loading included, since each alpha needs its own; and tokens sampled."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hneurons_eval import load_layout, resolve_model

    torch.set_num_threads(threads)
    path = resolve_model("smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    (neurons,) = neuron_sets(load_layout("smollm2-135m-instruct"), 1)
    texts = questions(count)
    start, sampled = time.perf_counter(), 0
    for alpha in ALPHAS:
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        with torch.inference_mode():
            for layer, index in zip(neurons.layers.tolist(), neurons.indices.tolist(), strict=True):
                model.model.layers[layer].mlp.down_proj.weight[:, index] *= alpha
            for first in range(0, len(texts), BATCH):
                turns = [[{"role": "user", "content": text}] for text in texts[first : first + BATCH]]
                given = tokenizer.apply_chat_template(
                    turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
                )
                said = model.generate(**given, do_sample=False, max_new_tokens=tokens)[:, given["input_ids"].shape[1] :]
                ends = said == model.generation_config.eos_token_id
                sampled += int((ends.cumsum(dim=-1) - ends.long() == 0).sum())
    return {"seconds": time.perf_counter() - start, "tokens": sampled, "threads": threads}


def measured(options: argparse.Namespace, side: str, controls: int) -> dict[str, float]:
    """A side in a process of its own, with nothing set that would choose its threads."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    arguments = ["--side", side, "--questions", str(options.questions), "--tokens", str(options.tokens)]
    done = subprocess.run(
        [sys.executable, __file__, *arguments, "--controls", str(controls), "--threads", str(options.threads)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{side} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=48, help="most in an answer (48)")
    parser.add_argument("--controls", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2, help="of the official way (2)")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        if options.side == "official":
            print(json.dumps(official(options.questions, options.tokens, options.threads)))
        else:
            print(json.dumps(ours(options.questions, options.tokens, options.controls, options.side)))
        return
    print(f"{options.questions} questions, 7 alphas, {options.controls} control sets, at most {options.tokens} tokens")
    found: dict[str, list[float]] = {"separate": [], "official": [], "per token": []}
    for number in range(options.rounds):
        mixed, separate, way = (measured(options, side, 0) for side in ("mixed", "separate", "official"))
        whole, plain = (measured(options, side, options.controls) for side in ("mixed", "plain"))
        found["separate"].append(separate["seconds"] / mixed["seconds"])
        found["official"].append(way["seconds"] / mixed["seconds"])
        found["per token"].append(whole["seconds"] / whole["tokens"] / (plain["seconds"] / plain["tokens"]))
        print(
            f"round {number + 1}: one batch {mixed['seconds']:.1f} s ({mixed['tokens']:.0f} tokens), "
            f"seven runs {separate['seconds']:.1f} s, official {way['seconds']:.1f} s; "
            f"with control sets {whole['seconds']:.1f} s ({whole['tokens']:.0f} tokens), "
            f"plain {plain['seconds']:.1f} s ({plain['tokens']:.0f} tokens)",
            flush=True,
        )
    for name, ratios in found.items():
        print(f"{name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
