"""More than is usually asked: long queues, full contexts, a thousand factors, a judge behind a bad server."""

import json
import os
import random
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from reliability_troubles import Found

QUEUED = 50_000
ALPHAS = 1_000
JUDGED = 2_000
MAX_GROWTH = 1.0
"""Gigabytes by which the process may grow while the queue is worked off."""


def resident() -> float:
    """Memory of this process, in gigabytes."""
    import psutil

    return psutil.Process().memory_info().rss / 2**30


def queued(checkpoint: Path, number: int = QUEUED) -> Found:
    """So many requests queued at once: each is answered, the same prompt and seed always alike, memory bounded."""
    from hneurons_eval.engine.engine import get_engine
    from hneurons_eval.engine.requests import GenerateRequest
    from hneurons_eval.engine.sampling import SamplingOptions

    begin = time.monotonic()
    engine = get_engine(str(checkpoint), dtype="float32", device="cpu", threads=1)
    rng = random.Random(0)
    prompts = [tuple(rng.randrange(3, engine.vocabulary) for _ in range(rng.randrange(4, 24))) for _ in range(2_000)]
    asked = [
        GenerateRequest(prompts[k % len(prompts)], 4, SamplingOptions(1.0, 50, None), seed=k % 5) for k in range(number)
    ]
    before, largest, watching = resident(), [0.0], threading.Event()

    def watch() -> None:
        while not watching.wait(0.1):
            largest[0] = max(largest[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        futures = [engine.generate(request) for request in asked]
        texts: dict[Any, set[tuple[int, ...]]] = {}
        for request, future in zip(asked, futures, strict=True):
            texts.setdefault((request.prompt, request.seed), set()).add(future.result(timeout=1_200).tokens)
    finally:
        watching.set()
        watcher.join()
    grown = max(largest[0], resident()) - before
    lost = [] if len(futures) == number else [f"{number - len(futures)} requests without an answer"]
    unlike = sum(len(said) > 1 for said in texts.values())
    lost += [f"{unlike} prompts were answered differently with the same seed"] if unlike else []
    lost += [f"the process grew by {grown:.2f} GB"] if grown > MAX_GROWTH else []
    seconds = time.monotonic() - begin
    remark = f"{number / seconds:.0f} answers a second; the process grew by {grown:.2f} GB"
    return Found(f"{number:,} requests queued at once", 1, lost, remark, seconds)


def at_the_limit(checkpoint: Path) -> Found:
    """Prompts as long as the context, one token shorter, and one longer."""
    from hneurons_eval.engine.engine import get_engine
    from hneurons_eval.engine.requests import CaptureRequest, GenerateRequest

    begin = time.monotonic()
    engine = get_engine(str(checkpoint), dtype="float32", device="cpu", threads=1)
    lost: list[str] = []
    times = 0
    for length in (engine.context - 2, engine.context - 1, engine.context, engine.context + 1, 4 * engine.context):
        tokens = tuple(3 + k % 90 for k in range(length))
        answer = engine.generate(GenerateRequest(tokens, 8)).result(120)
        room = max(0, engine.context - length)
        if len(answer.tokens) > room or (len(answer.tokens) == room and answer.stop_reason != "model_length"):
            lost.append(f"{length} tokens: {len(answer.tokens)} more, stopped by {answer.stop_reason}")
        try:
            engine.capture(CaptureRequest(tokens, (tuple(range(length)),))).result(120)
            lost += [f"{length} tokens were captured"] if length > engine.context else []
        except ValueError:
            lost += [f"{length} tokens were not captured"] if length <= engine.context else []
        times += 2
    after = engine.generate(GenerateRequest((5, 6, 7), 2)).result(60)
    lost += [] if len(after.tokens) else ["nothing is answered afterwards"]
    return Found("prompts at the context's limit", times, lost, f"context {engine.context}", time.monotonic() - begin)


def many_alphas(checkpoint: Path, directory: Path, number: int = ALPHAS) -> Found:
    """A sweep over so many factors, as a process of its own."""
    from inspect_ai.log import read_eval_log
    from reliability_runs import Place, Stage, command, run_to_the_end

    from hneurons_eval import NeuronSet
    from hneurons_eval.models.checkpoints import load_layout

    begin = time.monotonic()
    place = Place(directory / "alphas")
    place.directory.mkdir(parents=True)
    layout = load_layout(str(checkpoint))
    file = place.directory / "neurons.json"
    NeuronSet.from_flat(np.arange(5), layout).save(file)
    alphas = ",".join(f"{3 * k / (number - 1):.6f}" for k in range(number))
    arguments = {"neurons": str(file), "alphas": alphas, "controls": "0", "questions": "2", "true_premises": "false"}
    # What Inspect keeps of events while a sample runs takes longer than such short answers.
    stage = Stage("alphas", "falseqa", str(checkpoint), arguments, ("--max-tokens", "4", "--no-log-realtime"))
    status = run_to_the_end(command(stage, place), place, 600)
    logs = [read_eval_log(str(path)) for path in place.logs.glob("*.eval")]
    lost = [] if status == 0 and len(logs) == 1 and logs[0].status == "success" else ["the sweep failed"]
    wanted = 2 * len({1.0, *map(float, alphas.split(","))}) + 1
    found = len(logs[0].samples or []) if logs else 0
    lost += [] if found == wanted else [f"{found} samples instead of {wanted}"]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    seconds = time.monotonic() - begin
    return Found(f"a sweep over {number:,} alphas", 1, lost, f"{found} samples; at most {peak:.2f} GB", seconds)


def bad_judge(directory: Path, number: int = JUDGED) -> Found:
    """Answers judged over HTTP by a server of moods; judged again when it has recovered."""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, __file__, str(directory), str(number)],
        # Inspect makes the graders of a log anew to judge it again, with the key of the environment.
        env=os.environ | {"XDG_DATA_HOME": str(directory / "data"), "LOCAL_API_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-400:]
        lost = [f"exit status {done.returncode}: {said}"]
        return Found("a judge behind a misbehaving server", 1, lost, "", time.monotonic() - begin)
    found = json.loads(done.stdout.splitlines()[-1])
    return Found(
        "a judge behind a misbehaving server", number, found["lost"], found["remark"], time.monotonic() - begin
    )


def _judge(directory: Path, number: int) -> None:
    """In a process of its own: prints what `bad_judge` tells."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
    from inspect_ai import Task, score, task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import GenerateConfig, ModelOutput, ModelUsage, get_model
    from misbehaving_server import Moods, honest
    from openai_server import ChatServer

    from hneurons_eval.scorers.judge import judge

    said = iter([f"answer {k} is {'right' if k % 2 else 'wrong'}" for k in range(number)])
    usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)

    def reply(*_: Any) -> ModelOutput:
        return ModelOutput.from_content("m", next(said)).model_copy(update={"usage": usage})

    @task
    def asked() -> Task:
        samples = [Sample(id=k, input=f"Question {k}?", target=["nobody says this"]) for k in range(number)]
        return Task(dataset=samples, scorer=judge("llm"))

    def graded_by(url: str) -> Any:
        return get_model(
            "openai-api/local/judge", base_url=url, api_key="none", config=GenerateConfig(max_retries=1),
            memoize=False, max_retries=1,
        )  # fmt: skip

    moods = Moods(seed=1)
    with ChatServer(moods) as server:
        (log,) = inspect_eval(
            asked,  # pyright: ignore[reportArgumentType]
            model=get_model("mockllm/model", custom_outputs=reply, memoize=False),
            model_roles={"grader": graded_by(server.url)},
            log_dir=str(directory / "judged"),
            display="none",
            max_samples=32,
        )
        requests = len(server.requests)
    lost = [] if log.status == "success" else [f"the run ended with status {log.status}"]
    values = [sample.scores["judge"] for sample in log.samples or [] if sample.scores]
    scored = sum(one.value in ("C", "I", "N") for one in values)
    failed = sum((one.metadata or {}).get("verdict") == "unparsed" for one in values)
    lost += [] if scored + failed == number else [f"{scored} scored and {failed} unscored of {number}"]
    wrong = sum(one.value in ("C", "I") and one.value != ("C" if "right" in str(one.answer) else "I") for one in values)
    lost += [f"{wrong} verdicts that the judge did not give"] if wrong else []
    with ChatServer(honest) as server:
        again = score(
            log, judge("llm"), model_roles={"grader": graded_by(server.url)}, action="overwrite", display="none"
        )
    right = sum(sample.scores["judge"].value in ("C", "I") for sample in again.samples or [] if sample.scores)
    lost += [] if right == number else [f"judged again, {number - right} have no verdict"]
    remark = f"{requests} requests; {scored} scored, {failed} unscored; judged again: {right} scored"
    print(json.dumps({"lost": lost, "remark": remark}))


if __name__ == "__main__":
    _judge(Path(sys.argv[1]), int(sys.argv[2]))
