"""How many sampled answers change with the batch, with the number of threads, and between shared batches and `strict`.

    python benchmarks/sampling_stability.py                       # 2,000 answers; `strict` takes most of an hour
    python benchmarks/sampling_stability.py --strict 0            # without it
    python benchmarks/sampling_stability.py --dtype bfloat16 --strict 0 --out stability.json
    PYTHONPATH=OTHER python benchmarks/sampling_stability.py      # the same with the code in OTHER

200 bundled questions are answered ten times by the bundled model, 16 tokens each, sampled from the whole vocabulary at
temperature 1. Every side is a process of its own:

    base      2 threads, at most 320 rows
    batch     the same requests in another order, at most 77 rows
    threads   as base, 1 thread
    strict    1 thread, each answer alone in a batch of one row

Printed is how many answers differ from base's in any token, with the exact (Clopper-Pearson) 95 % interval of the rate.
With `--work FOLDER` sides that are there already are not run again, and `strict` goes on where it was stopped.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import deque
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m-instruct"
DRAWS = 10
TOKENS = 16
AHEAD = 4
"""Requests that wait in a strict engine, so that it never waits for one."""


@dataclass(frozen=True)
class Side:
    """How one process answers.

    Attributes:
        threads: of torch.
        max_rows: of a batch.
        shuffled: ask in another order.
        strict: compute each answer alone.
    """

    threads: int = 2
    max_rows: int = 320
    shuffled: bool = False
    strict: bool = False


SIDES = {
    "base": Side(),
    "batch": Side(max_rows=77, shuffled=True),
    "threads": Side(threads=1),
    "strict": Side(threads=1, strict=True),
}


def order(side: Side, answers: int) -> list[int]:
    """Numbers of the answers in the order in which a side asks for them; a part of strict's is a random part."""
    numbers = list(range(answers))
    if side.shuffled or side.strict:
        random.Random(0).shuffle(numbers)
    return numbers


def requests(engine: Any, answers: int) -> list[Any]:
    from inspect_ai.model import ChatMessageUser

    from hneurons_eval.data.questions import load_questions
    from hneurons_eval.engine.prompts import PromptFormat
    from hneurons_eval.engine.requests import GenerateRequest
    from hneurons_eval.engine.sampling import SamplingOptions

    questions = list(load_questions("facts"))
    random.Random(0).shuffle(questions)
    template = PromptFormat(engine.tokenizer)
    prompts = [template.encode([ChatMessageUser(content=q.question)]) for q in questions[: -(-answers // DRAWS)]]
    if len(prompts) * DRAWS < answers:
        raise SystemExit(f"{len(prompts)} questions give {len(prompts) * DRAWS} answers, not {answers}")
    return [
        GenerateRequest(prompts[n // DRAWS], TOKENS, SamplingOptions(temperature=1.0), seed=0, sample=n % DRAWS)
        for n in range(answers)
    ]


def answer(name: str, dtype: str, answers: int, wanted: int, file: Path) -> None:
    """Sample the answers of a side that its file lacks, and add to it a line `[number, tokens]` for each."""
    from hneurons_eval.engine.engine import Engine

    side = SIDES[name]
    done = len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0
    missing = order(side, answers)[done:wanted]
    if not missing:
        return
    engine = Engine(
        MODEL, dtype=dtype, device="cpu", threads=side.threads, max_rows=side.max_rows, deterministic=side.strict
    )
    asked = requests(engine, answers)
    waiting: deque[tuple[int, Future[Any]]] = deque()
    with file.open("a", encoding="utf-8") as out:
        for number in missing:
            waiting.append((number, engine.generate(asked[number])))
            while waiting and (number == missing[-1] or (side.strict and len(waiting) > AHEAD)):
                own, future = waiting.popleft()
                out.write(json.dumps([own, future.result().tokens]) + "\n")
                out.flush()


def read(file: Path) -> dict[int, list[int]]:
    return dict(json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


def compare(base: dict[int, list[int]], other: dict[int, list[int]]) -> dict[str, Any]:
    """How many of the answers that both have differ."""
    from scipy.stats import binomtest

    both = sorted(base.keys() & other.keys())
    differ = sum(base[number] != other[number] for number in both)
    interval = binomtest(differ, len(both)).proportion_ci(0.95, method="exact")
    tokens = sum(len(base[number]) for number in both)
    return {"answers": len(both), "tokens": tokens, "differ": differ, "low": interval.low, "high": interval.high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--strict", type=int, metavar="N", help="answers of the strict side; default all, 0 none")
    parser.add_argument("--work", type=Path, help="folder for the answers of the sides; default a temporary one")
    parser.add_argument("--out", type=Path, help="write the counts here as JSON")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    strict = options.answers if options.strict is None else min(options.strict, options.answers)
    if options.side:
        wanted = strict if options.side == "strict" else options.answers
        answer(options.side, options.dtype, options.answers, wanted, options.work / f"{options.side}.jsonl")
        return
    with tempfile.TemporaryDirectory() as temporary:
        work: Path = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        own = [
            "--dtype",
            options.dtype,
            "--answers",
            str(options.answers),
            "--strict",
            str(strict),
            "--work",
            str(work),
        ]
        found: dict[str, dict[str, Any]] = {}
        for name in SIDES:
            if name == "strict" and not strict:
                continue
            # Threads that wait do not spin, which costs most of the time where cores are shared.
            environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
            subprocess.run([sys.executable, __file__, "--side", name, *own], check=True, env=environment)
            if name == "base":
                continue
            found[name] = compare(read(work / "base.jsonl"), read(work / f"{name}.jsonl"))
            one = found[name]
            print(
                f"{options.dtype} {name:8s} {one['differ']:5d} of {one['answers']} answers differ: "
                f"{100 * one['differ'] / one['answers']:.2f} % ({100 * one['low']:.2f} to {100 * one['high']:.2f})",
                flush=True,
            )
    if options.out is not None:
        report = {"dtype": options.dtype, "tokens_each": TOKENS, "sides": {k: asdict(v) for k, v in SIDES.items()}}
        options.out.write_text(json.dumps(report | {"differ": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
