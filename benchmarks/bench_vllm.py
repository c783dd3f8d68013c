"""Answers a second on vLLM: the engine on transformers, vLLM by itself, and `hneurons-vllm/`, in turn.

    make bench-vllm
    .venv-vllm/bin/python benchmarks/bench_vllm.py --questions 16 --rounds 2

Each side is a process of its own that stays loaded; sides take turns, round by round, and only one works at a time.
What is compared is the time for each sampled token, since answers of other engines and other alphas have other lengths.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

MODEL = "smollm2-135m-instruct"
ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
NEURONS = 100
MAX_TOKENS = 50
OPTIONS: dict[str, Any] = {"max_model_len": 512, "max_num_seqs": 256, "kv_cache_memory_bytes": 1 << 30}
SIDES = ("transformers", "vllm-eager", "vllm-compiled", "hneurons-vllm")


def questions_of(round_number: int, count: int) -> list[str]:
    """Other questions in each round, since prompts that were seen are remembered."""
    from hneurons_eval.data.questions import load_questions

    every = load_questions("facts")
    return [every[(round_number * count + k) * 7 % len(every)].question for k in range(count)]


def prompts_of(tokenizer: Any, questions: Sequence[str]) -> list[tuple[int, ...]]:
    """Token ids in the chat template."""
    found = []
    for question in questions:
        turns = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        found.append(tuple(tokenizer(text, add_special_tokens=False)["input_ids"]))
    return found


# ---- the sides -----------------------------------------------------------------------------------


def serve(side: str, dtype: str) -> None:
    """Load, then answer each line of standard input, `[kind, round, questions, draws]`, by a line of results."""
    run = plain_side(side, dtype) if side.startswith("vllm") else our_side(side, dtype)
    run("draws", 10_000, 2, 2)  # warm up
    print("READY", flush=True)
    for line in sys.stdin:
        kind, number, questions, draws = json.loads(line)
        begin = time.perf_counter()
        tokens, answers = run(kind, number, questions, draws)
        seconds = time.perf_counter() - begin
        found = {"seconds": seconds, "tokens": tokens, "answers": answers}
        print("FOUND", json.dumps(found), flush=True)


def plain_side(side: str, dtype: str) -> Callable[..., tuple[int, int]]:
    """vLLM with nothing of ours in it."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    from hneurons_eval.models.checkpoints import load_tokenizer, resolve_model

    tokenizer = load_tokenizer(MODEL)
    llm = LLM(model=resolve_model(MODEL), dtype=dtype, enforce_eager=side == "vllm-eager", **OPTIONS)

    def run(kind: str, number: int, questions: int, draws: int) -> tuple[int, int]:
        prompts = prompts_of(tokenizer, questions_of(number, questions))
        asked = [{"prompt_token_ids": list(ids)} for ids in prompts for _ in range(draws)]
        params = [
            SamplingParams(temperature=1.0, top_k=50, top_p=0.9, max_tokens=MAX_TOKENS, seed=seed, detokenize=False)
            for seed in range(len(asked))
        ]
        outputs = llm.generate(asked, params, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs), len(outputs)

    return run


def our_side(side: str, dtype: str) -> Callable[..., tuple[int, int]]:
    """Either of our engines: `draws`, `captured` (while they are generated), `alphas` (seven in one batch), `given`."""
    import numpy as np

    from hneurons_eval.engine.requests import AnswerCapture, CaptureRequest, GenerateRequest
    from hneurons_eval.engine.sampling import SamplingOptions
    from hneurons_eval.models.neuron_set import NeuronSet
    from hneurons_eval.models.scaling import Intervention

    if side == "transformers":
        from hneurons_eval.engine.engine import get_engine

        engine: Any = get_engine(MODEL, dtype=dtype, device="cpu", threads=len(os.sched_getaffinity(0)))
    else:
        from hneurons_eval.vllm.engine import get_vllm_engine

        engine = get_vllm_engine(MODEL, dtype=dtype, options=OPTIONS)
    rng = np.random.default_rng(0)
    neurons = NeuronSet.from_flat(np.sort(rng.permutation(engine.layout.total)[:NEURONS]), engine.layout)
    capture = AnswerCapture(lambda text: (0, len(text)) if text else None, other=True)

    def run(kind: str, number: int, questions: int, draws: int) -> tuple[int, int]:
        prompts = prompts_of(engine.tokenizer, questions_of(number, questions))
        futures: list[Future[Any]] = []
        if kind == "given":
            answer = tuple(range(10))
            for prompt in prompts * draws:
                regions = (tuple(len(prompt) + k for k in answer), tuple(range(len(prompt))))
                futures.append(engine.capture(CaptureRequest(prompt + prompt[:10], regions, response_from=len(prompt))))
            for future in futures:
                future.result()
            return sum(len(prompt) + 10 for prompt in prompts) * draws, len(futures)
        for place, prompt in enumerate(prompt for prompt in prompts for _ in range(draws)):
            request = GenerateRequest(prompt, MAX_TOKENS, SamplingOptions(1.0, 50, 0.9), seed=place)
            if kind == "captured":
                request = GenerateRequest(
                    prompt, MAX_TOKENS, request.sampling, seed=place, top_logprobs=0, capture=capture
                )
            if kind == "alphas":
                alpha = ALPHAS[place % len(ALPHAS)]
                request = GenerateRequest(
                    prompt, MAX_TOKENS, request.sampling, seed=place, intervention=Intervention(neurons, alpha)
                )
            futures.append(engine.generate(request))
        return sum(len(future.result().tokens) for future in futures), len(futures)

    return run


# ---- the comparison ------------------------------------------------------------------------------


class Side:
    """A loaded process."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name, "--dtype", dtype],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read("READY")

    def _read(self, mark: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(mark):
                return line.removeprefix(mark)
        raise RuntimeError(f"{self.name} ended without a result")

    def measure(self, *work: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        return json.loads(self._read("FOUND"))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--sides", nargs="*", default=list(SIDES), choices=SIDES)
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if options.serve:
        serve(options.serve, options.dtype)
        return
    sides = {name: Side(name, options.dtype) for name in options.sides}
    work = [(name, "draws") for name in sides]
    work += [("hneurons-vllm", kind) for kind in ("captured", "alphas", "given") if "hneurons-vllm" in sides]
    cost: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for number in range(options.rounds):
        for name, kind in work:
            found = sides[name].measure(kind, number, options.questions, options.draws)
            cost[name, kind].append(1e3 * found["seconds"] / found["tokens"])
            print(f"round {number} {name} {kind}: {json.dumps(found)}", flush=True)
    for side in sides.values():
        side.close()
    print(f"\n{MODEL}, {options.dtype}, {options.questions} questions x {options.draws} draws, ms a token")
    for key, values in cost.items():
        print(f"{key[0]:>14} {key[1]:<9} {statistics.median(values):8.3f}  ({min(values):.3f} to {max(values):.3f})")
    for above, below in (
        (("transformers", "draws"), ("vllm-eager", "draws")),
        (("transformers", "draws"), ("vllm-compiled", "draws")),
        (("transformers", "draws"), ("hneurons-vllm", "draws")),
        (("hneurons-vllm", "draws"), ("vllm-eager", "draws")),
        (("hneurons-vllm", "captured"), ("vllm-eager", "draws")),
        (("hneurons-vllm", "alphas"), ("vllm-eager", "draws")),
    ):
        if above in cost and below in cost:
            ratios = [one / other for one, other in zip(cost[above], cost[below], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{' '.join(above)} / {' '.join(below)}: {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
