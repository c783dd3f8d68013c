"""The sides of bench_engine.py, each in a process of its own.

    python benchmarks/engine_sides.py SIDE WORK OPTIONS

loads a model and warms up, then answers each line of standard input (JSON arguments of one measurement) by a
line of JSON: `cost` (what is compared), `seconds`, and whatever else tells how it came about. Loading and
warm-up are not timed, except by `fresh_inspect`.

Every round asks other questions, since the engine remembers prompts that it has seen.
"""

import hashlib
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m-instruct"
THREADS = (1, 2)
MAX_TOKENS = 50
ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
FIXED_TOKENS = 24
STORY = "{} Once upon a time, in a village by the sea, there was a"
"""Prompts, without a template, that hardly any answer ends within the few tokens that are sampled."""
TINY_HIDDEN = 256

Measure = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Work:
    """What all sides of a run share.

    Attributes:
        folder: holds prompts.json (texts of user turns) and, once sampled, answers.json.
        dtype: of the weights.
        questions: asked in each round.
        draws: of each question.
        rows: sampled together where rows are compared.
        captures: responses captured in each round.
        threads: of our engine; None lets it choose.
    """

    folder: str
    dtype: str
    questions: int
    draws: int
    rows: int
    captures: int
    threads: int | None = None

    def texts(self, start: int, count: int) -> list[str]:
        """User turns, all different; where the questions run out they come again with a number."""
        known = json.loads((Path(self.folder) / "prompts.json").read_text(encoding="utf-8"))
        numbers = range(start, start + count)
        return [known[n] if n < len(known) else f"({n // len(known)}) {known[n % len(known)]}" for n in numbers]

    def round(self, number: int) -> list[str]:
        """The user turns of a round; round -1, for warm-up and calibration, has a quarter of them."""
        return self.texts((number + 1) * self.questions, self.questions if number >= 0 else self.questions // 4)

    def stories(self, number: int) -> list[str]:
        """A round's prompts to which answers do not end."""
        return [STORY.format(n) for n in range((number + 1) * self.rows, (number + 2) * self.rows)]

    def responses(self, number: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Token ids of prompt and sampled answer, of the responses of a round; round -1 as above."""
        pairs = json.loads((Path(self.folder) / "answers.json").read_text(encoding="utf-8"))
        start, count = (number + 1) * self.captures, self.captures if number >= 0 else self.captures // 4
        return [(tuple(prompt), tuple(answer)) for prompt, answer in pairs[start : start + count]]


# ---- what several sides do ----


def start_engine(work: Work, name: str = MODEL) -> Any:
    from hneurons_eval.engine.engine import get_engine

    return get_engine(name, dtype=work.dtype, threads=work.threads)


def encode(engine: Any, texts: Iterable[str]) -> list[tuple[int, ...]]:
    """Token ids of each text as a user turn in the chat template."""
    from inspect_ai.model import ChatMessageUser

    from hneurons_eval.engine.prompts import PromptFormat

    template = PromptFormat(engine.tokenizer)
    return [template.encode([ChatMessageUser(content=text)]) for text in texts]


def sampling() -> Any:
    from hneurons_eval.engine.sampling import SamplingOptions

    return SamplingOptions(temperature=1.0, top_k=50, top_p=0.9)


def scaling(neurons: Any, alpha: float) -> Any:
    from hneurons_eval.models.scaling import Intervention

    return Intervention(neurons, alpha)


def timed(start: float, items: int, **more: Any) -> dict[str, Any]:
    """A record of a measurement that ends now; `cost` is milliseconds an item."""
    seconds = time.perf_counter() - start
    return {"cost": 1000 * seconds / items, "seconds": seconds, "items": items, **more}


def digest(texts: Iterable[str]) -> str:
    """Tells whether two sides sampled the same texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def load_plain(work: Work) -> tuple[Any, Any]:
    """The model and its tokenizer, as users of transformers load them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hneurons_eval import resolve_model

    path = resolve_model(MODEL)
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=work.dtype)
    return model.eval(), AutoTokenizer.from_pretrained(path, padding_side="left")


# ---- sampling through Inspect ----


def run_inspect(texts: Sequence[str], draws: int, model: str, **options: Any) -> dict[str, Any]:
    """Sample with Inspect and time the whole eval."""
    import inspect_ai
    from inspect_ai.dataset import Sample
    from inspect_ai.model import GenerateConfig
    from inspect_ai.solver import generate

    task = inspect_ai.Task(
        dataset=[Sample(input=text, id=number) for number, text in enumerate(texts)],
        solver=generate(),
        epochs=draws,
        config=GenerateConfig(temperature=1.0, top_k=50, top_p=0.9, max_tokens=MAX_TOKENS),
    )
    with tempfile.TemporaryDirectory() as logs:
        start = time.perf_counter()
        log = inspect_ai.eval(task, model=model, display="none", log_dir=logs, **options)[0]
        record = timed(start, len(texts) * draws)
        if log.status != "success" or log.samples is None or len(log.samples) != record["items"]:
            raise RuntimeError(f"the eval of {model} ended with {log.status}: {log.error}")
    return record | {"tokens": sum(usage.output_tokens for usage in log.stats.model_usage.values())}


def inspect_options(work: Work, provider: str) -> dict[str, Any]:
    """Model and model args of a provider, as `inspect_ai.eval` takes them."""
    if provider == "hneurons":
        return {"model": f"hneurons/{MODEL}", "model_args": {"dtype": work.dtype, "threads": work.threads}}
    from hneurons_eval import resolve_model

    path = resolve_model(MODEL)
    arguments = {"model_path": path, "tokenizer_path": path, "device": "cpu", "dtype": work.dtype}
    return {"model": "hf/local", "model_args": arguments}


def ours_inspect(work: Work) -> Measure:
    options: dict[str, Any] = inspect_options(work, "hneurons") | {"max_connections": 512}
    run_inspect(work.round(-1)[:2], 2, **options)
    engine = start_engine(work)
    return lambda round: run_inspect(work.round(round), work.draws, **options) | {"threads": engine.threads}


def hf_inspect(work: Work, threads: int) -> Measure:
    """Inspect's own provider. All answers fit one batch, which it starts as soon as the last one is asked for."""
    import torch

    torch.set_num_threads(threads)  # before the provider's thread starts, which takes this over
    options: dict[str, Any] = inspect_options(work, "hf") | {"max_connections": work.questions * work.draws}
    run_inspect(work.round(-1)[:2], 2, **options)
    return lambda round: run_inspect(work.round(round), work.draws, **options) | {"threads": threads}


def fresh_inspect(work: Work, provider: str) -> Measure:
    """Nothing is loaded and nothing is set: the eval loads the model too."""
    import inspect_ai  # noqa: F401

    options = inspect_options(work, provider)
    for preset in ("device", "dtype", "threads", "tokenizer_path"):
        options["model_args"].pop(preset, None)
    return lambda round: run_inspect(work.round(round), work.draws, **options)


# ---- sampling without Inspect ----


def ours_draws(work: Work, capture: bool) -> Measure:
    """All draws by the engine, with all that `detect` takes (three regions, entropies, hidden state) or without."""
    from hneurons_eval.engine.requests import GenerateRequest

    engine, extra = start_engine(work), {}
    if capture:
        from hneurons_eval.engine.requests import AnswerCapture

        extra = {"capture": AnswerCapture(span=whole, reduce="mean", other=True), "top_logprobs": 0}

    def run(texts: Sequence[str], draws: int, seed: int) -> dict[str, Any]:
        start = time.perf_counter()
        futures = [
            engine.generate(GenerateRequest(prompt, MAX_TOKENS, sampling(), seed, draw, **extra))
            for prompt in encode(engine, texts)
            for draw in range(draws)
        ]
        answers = [future.result() for future in futures]
        record = timed(start, len(answers), tokens=sum(len(answer.tokens) for answer in answers))
        if capture and any(answer.captured is None for answer in answers if answer.text):
            raise RuntimeError("an answer came without its contributions")
        return record | {"texts": digest(answer.text for answer in answers), "threads": engine.threads}

    run(work.round(-1)[:4], 2, 0)
    return lambda round: run(work.round(round), work.draws, round)


def whole(text: str) -> tuple[int, int] | None:
    """The span of a whole answer, in characters."""
    return (0, len(text)) if text else None


def hf_generate(work: Work) -> Measure:
    """`model.generate` with several sequences a prompt, at the best numbers of questions a batch and of threads.

    Both are found on the beginnings of answers, since whole ones would take longer than what is measured.
    """
    import torch

    model, tokenizer = load_plain(work)

    def run(texts: Sequence[str], batch: int, threads: int, most: int = MAX_TOKENS) -> dict[str, Any]:
        torch.set_num_threads(threads)
        tokens, answers, start = 0, [], time.perf_counter()
        for first in range(0, len(texts), batch):
            turns = [[{"role": "user", "content": text}] for text in texts[first : first + batch]]
            given = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
            )
            with torch.inference_mode():
                said = model.generate(
                    **given,
                    do_sample=True,
                    temperature=1.0,
                    top_k=50,
                    top_p=0.9,
                    max_new_tokens=most,
                    num_return_sequences=work.draws,
                )[:, given["input_ids"].shape[1] :]
            answers += tokenizer.batch_decode(said, skip_special_tokens=True)
            ends = said == model.generation_config.eos_token_id
            tokens += int((ends.cumsum(dim=-1) - ends.long() == 0).sum())
        return timed(start, len(answers), tokens=tokens, batch=batch, threads=threads)

    sample = work.texts(0, work.questions)
    run(sample[:2], 2, THREADS[-1], 4)
    ways = [(min(batch, work.questions), number) for number in THREADS for batch in (8, 32)]
    batch, number = min(ways, key=lambda way: run(sample, *way, most=12)["seconds"])
    return lambda round: run(work.round(round), batch, number)


def ours_alphas(work: Work, mixed: bool) -> Measure:
    """Rows that mix alphas over 100 random neurons, or the same rows untouched. Items are sampled tokens."""
    from hneurons_eval.engine.requests import GenerateRequest

    engine = start_engine(work)
    neurons = random_neurons(engine, 100) if mixed else None

    def run(texts: Sequence[str]) -> dict[str, Any]:
        prompts = [tuple(engine.tokenizer(text)["input_ids"]) for text in texts]
        alphas = itertools.cycle(ALPHAS if mixed else (1.0,))
        start = time.perf_counter()
        futures = [
            engine.generate(GenerateRequest(prompt, FIXED_TOKENS, sampling(), intervention=scaling(neurons, alpha)))
            for prompt, alpha in zip(prompts, alphas, strict=False)
        ]
        tokens = sum(len(future.result().tokens) for future in futures)
        return timed(start, tokens, rows=len(futures), threads=engine.threads)

    run(work.stories(-1)[:8])
    return lambda round: run(work.stories(round))


def engine_threads(work: Work) -> Measure:
    """How many threads the engine chooses when it starts."""
    engine = start_engine(work)
    return lambda: {"threads": engine.threads}


def random_neurons(engine: Any, count: int) -> Any:
    from hneurons_eval import NeuronSet

    return NeuronSet.from_flat(random.Random(0).sample(range(engine.layout.total), count), engine.layout)


def sample_answers(work: Work) -> Measure:
    """Writes answers.json: one sampled answer to each of `count` questions."""
    from hneurons_eval.engine.requests import GenerateRequest

    engine = start_engine(work)

    def run(count: int) -> dict[str, Any]:
        start = time.perf_counter()
        prompts = encode(engine, work.texts(0, count))
        futures = [engine.generate(GenerateRequest(prompt, MAX_TOKENS, sampling())) for prompt in prompts]
        pairs = [(prompt, future.result().tokens) for prompt, future in zip(prompts, futures, strict=True)]
        (Path(work.folder) / "answers.json").write_text(json.dumps(pairs), encoding="utf-8")
        return timed(start, count)

    return run


# ---- contributions of given responses ----


@dataclass(frozen=True)
class Response:
    """Tokens of prompt and answer, positions of two regions (the answer, and all others), and the prompt's length."""

    tokens: tuple[int, ...]
    regions: tuple[tuple[int, ...], tuple[int, ...]]
    prompt: int


def response(prompt: Sequence[int], answer: Sequence[int]) -> Response:
    total = len(prompt) + len(answer)
    regions = tuple(range(len(prompt), total)), tuple(range(len(prompt)))
    return Response((*prompt, *answer), regions, len(prompt))


def responses(work: Work, number: int, distinct: bool) -> list[Response]:
    """The responses of a round; `distinct` puts another random token before each, so that no two share a prefix."""
    pairs = work.responses(number)
    firsts = random.Random(number).sample(range(3, 49152), len(pairs))
    return [
        response((first, *prompt) if distinct else prompt, answer)
        for first, (prompt, answer) in zip(firsts, pairs, strict=True)
    ]


def capture_all(engine: Any, given: Iterable[Response], folder: str | None = None) -> None:
    """Capture two regions of each response; with a folder, all that the capture task takes, into a store there."""
    from hneurons_eval.engine.requests import CaptureRequest

    if folder is None:
        for future in as_completed([engine.capture(CaptureRequest(one.tokens, one.regions)) for one in given]):
            future.result()
        return
    from hneurons_eval.artifacts.contribution_shards import Contributions, StoreSpec
    from hneurons_eval.artifacts.contribution_store import ContributionStore

    spec = StoreSpec("benchmark", engine.layout.widths, ("answer", "other", "prompt"))
    store = ContributionStore(Path(folder), spec)
    asked = [CaptureRequest(one.tokens, (*one.regions, one.regions[1]), "mean", one.prompt) for one in given]
    for number, future in enumerate(as_completed([engine.capture(one) for one in asked])):
        row = future.result()
        extras = {"logprobs": row.logprobs, "entropies": row.entropies, "hidden": row.hidden}
        store.add(f"{number:064x}", Contributions(row.contributions, {}, extras))
    store.flush()


def ours_teacher(work: Work, distinct: bool, save: bool) -> Measure:
    engine = start_engine(work)

    def run(given: list[Response]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            capture_all(engine, given, folder if save else None)
            return timed(start, len(given), tokens=sum(len(one.tokens) for one in given), threads=engine.threads)

    run(responses(work, -1, distinct)[:16])
    return lambda round: run(responses(work, round, distinct))


def official_teacher(work: Work, threads: int) -> Measure:
    """As the official scripts do it: one response a pass, all layers' activations of the whole sequence kept."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    model, _ = load_plain(work)
    activations: list[Any] = []
    sizes: list[Any] = []

    def keep(_module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        activations.append(inputs[0].detach())
        sizes.append(output.detach().norm(dim=-1, keepdim=True))

    places = [layer.mlp.down_proj for layer in model.model.layers]
    for place in places:
        place.register_forward_hook(keep)
    columns = torch.stack([place.weight.detach().norm(dim=0) for place in places])[:, None]  # [layers, 1, width]

    def run(given: list[Response]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            start = time.perf_counter()
            for number, one in enumerate(given):
                activations.clear()
                sizes.clear()
                model(torch.tensor([one.tokens]))
                z, h = torch.stack(activations)[:, 0], torch.stack(sizes)[:, 0]  # [layers, tokens, width or 1]
                cett = z.abs() * columns / (h + 1e-8)
                means = [cett[:, list(region)].mean(dim=1).flatten() for region in one.regions]
                np.save(Path(folder) / f"{number}.npy", torch.stack(means).float().numpy())
            return timed(start, len(given), tokens=sum(len(one.tokens) for one in given), threads=threads)

    run(responses(work, -1, distinct=False)[:4])
    return lambda round: run(responses(work, round, distinct=False))


def bare_teacher(work: Work, threads: int, distinct: bool) -> Measure:
    """The decoder layers alone: no hooks, no logits, no cache; padded batches as the engine makes them."""
    import torch

    torch.set_num_threads(threads)
    decoder = load_plain(work)[0].get_decoder()

    def run(given: list[Response]) -> dict[str, Any]:
        start = time.perf_counter()
        with torch.inference_mode():
            for batch in padded_batches([one.tokens for one in given]):
                width = max(map(len, batch))
                ids = torch.tensor([(0,) * (width - len(tokens)) + tokens for tokens in batch])
                mask = torch.tensor([[0] * (width - len(tokens)) + [1] * len(tokens) for tokens in batch])
                positions = (mask.cumsum(dim=-1) - 1).clamp_min(0)
                decoder(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        return timed(start, len(given), tokens=sum(len(one.tokens) for one in given), threads=threads)

    run(responses(work, -1, distinct)[:16])
    return lambda round: run(responses(work, round, distinct))


def padded_batches(sequences: Iterable[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
    """Longest first, as many together as the engine's limit of padded tokens allows."""
    from hneurons_eval.engine.engine import CAPTURE_TOKENS

    waiting = sorted(sequences, key=len, reverse=True)
    while waiting:
        count = max(1, CAPTURE_TOKENS // len(waiting[0]))
        yield waiting[:count]
        waiting = waiting[count:]


def peak_bytes() -> int:
    """Largest resident size of this process so far (Linux)."""
    return 1024 * int(Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()[0])


def capture_memory(work: Work, count: int, in_flight: int = 64) -> Measure:
    """Peak resident bytes while `count` responses are captured, a bounded number of them at a time.

    The peak of loading is larger, so it is forgotten before the first capture. The questions are all
    different, the answers are those sampled for the first round.
    """
    import numpy as np

    from hneurons_eval.engine.requests import CaptureRequest

    engine = start_engine(work)
    answers = [answer for _, answer in work.responses(0)]
    prompts = encode(engine, work.texts(0, count))

    def run(round: int) -> dict[str, Any]:
        loading = peak_bytes()
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts anew
        start = time.perf_counter()
        pending: set[Future[Any]] = set()
        written = 0
        with tempfile.TemporaryDirectory() as folder:
            for number, prompt in enumerate(prompts):
                one = response(prompt, answers[number % len(answers)])
                pending.add(engine.capture(CaptureRequest(one.tokens, one.regions)))
                while len(pending) >= in_flight or (pending and number == count - 1):
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        np.save(Path(folder) / f"{written % in_flight}.npy", future.result().contributions)
                        written += 1
        return timed(start, count) | {"cost": peak_bytes() / 1e6, "loading_bytes": loading}

    return run


# ---- how time grows ----


def scaling_points(work: Work) -> Measure:
    """Time of one point of a curve, on prompts that no earlier point has used."""
    from hneurons_eval.engine.requests import GenerateRequest

    engine, used = start_engine(work), itertools.count()

    def fresh_stories(count: int) -> list[tuple[int, ...]]:
        return [tuple(engine.tokenizer(STORY.format(next(used)))["input_ids"]) for _ in range(count)]

    def run(requests: Sequence[Any], by_token: bool) -> dict[str, Any]:
        start = time.perf_counter()
        futures = [engine.generate(request) for request in requests]
        tokens = sum(len(future.result().tokens) for future in futures)
        return timed(start, tokens if by_token else len(futures))

    def measure(curve: str, point: int, rows: int) -> dict[str, Any]:
        if curve == "draws":
            asked = itertools.product(encode(engine, work.texts(8 * next(used), 8)), range(point))
            return run([GenerateRequest(p, MAX_TOKENS, sampling(), sample=draw) for p, draw in asked], False)
        prompts = fresh_stories(point if curve == "rows" else rows)
        limit = point if curve == "length" else FIXED_TOKENS
        neurons = random_neurons(engine, point) if curve == "neurons" else None
        return run([GenerateRequest(p, limit, sampling(), intervention=scaling(neurons, 0.5)) for p in prompts], True)

    measure("draws", 1, 8)
    return measure


def layer_points(work: Work) -> Measure:
    """Time to capture `rows` sequences of 64 random tokens with a random model of so many layers."""
    engines: dict[int, Any] = {}

    def measure(point: int, rows: int) -> dict[str, Any]:
        if point not in engines:
            engines[point] = start_engine(work, str(tiny_checkpoint(Path(work.folder) / f"layers-{point}", point)))
            capture_all(engines[point], random_responses(4))
        given = random_responses(rows)
        start = time.perf_counter()
        capture_all(engines[point], given)
        return timed(start, rows)

    return measure


def random_responses(count: int) -> list[Response]:
    tokens = [[random.randrange(3, 49152) for _ in range(64)] for _ in range(count)]
    return [response(one[:48], one[48:]) for one in tokens]


def tiny_checkpoint(directory: Path, layers: int) -> Path:
    """A random Llama model with the bundled tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from hneurons_eval import resolve_model

    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=TINY_HIDDEN,
        intermediate_size=4 * TINY_HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(Path(resolve_model(MODEL)) / name, directory / name)
    return directory


# ---- what the machine can do ----


def matmul_rate(work: Work) -> Measure:
    """Rate of the model's matrix products at as many rows as a full batch, and what drawing answers makes of it.

    Counted are the products of each sampled token; prefilling is not, nor that draws which begin alike share some.
    """
    engine = start_engine(work)
    draw = ours_draws(work, capture=False)

    def measure(round: int) -> dict[str, Any]:
        rates = engine.call(lambda model: best_rates(model, work.rows, engine.threads)).result()
        sampled = draw(round)
        reached = rates["flop_per_token"] * sampled["tokens"] / sampled["seconds"] / 1e9
        return rates | {"engine_gflops": reached, "share": reached / rates["gflops"], "generation": sampled}

    return measure


def best_rates(model: Any, rows: int, usual_threads: int) -> dict[str, Any]:
    """GFLOP/s of each product of a token and of all together, at the best number of threads."""
    import torch

    layer = model.model.layers[0]
    places = {
        "q": (layer.self_attn.q_proj, ("q_proj", "k_proj", "v_proj", "o_proj")),
        "gate": (layer.mlp.gate_proj, ("gate_proj", "up_proj")),
        "down": (layer.mlp.down_proj, ("down_proj",)),
        "lm_head": (model.lm_head, ("lm_head",)),
    }
    flops = {  # of a token, in all matrices of the kind
        kind: 2 * sum(m.weight.numel() for name, m in model.named_modules() if name.split(".")[-1] in names)
        for kind, (_, names) in places.items()
    }
    found: list[dict[str, Any]] = []
    for threads in sorted({1, 2, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        rates = {kind: product_rate(module.weight.detach(), rows) for kind, (module, _) in places.items()}
        total = sum(flops.values()) / sum(flops[kind] / rates[kind] for kind in rates)
        found.append({"gflops": total, "shapes": rates, "threads": threads})
    torch.set_num_threads(usual_threads)
    return max(found, key=lambda one: one["gflops"]) | {"flop_per_token": sum(flops.values()), "tried": found}


def product_rate(weight: Any, rows: int, least_seconds: float = 0.3) -> float:
    """GFLOP/s of `rows` vectors times a matrix: the best of several runs, since others may be at work too."""
    import torch

    x = torch.randn(rows, weight.shape[1]).to(weight.dtype)
    torch.nn.functional.linear(x, weight)
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < least_seconds:
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        best = min(best, time.perf_counter() - start)
    return 2 * rows * weight.numel() / best / 1e9


SIDES: dict[str, Callable[..., Measure]] = {
    side.__name__: side
    for side in (
        *(ours_inspect, hf_inspect, fresh_inspect),
        *(ours_draws, hf_generate, ours_alphas, engine_threads, sample_answers),
        *(ours_teacher, official_teacher, bare_teacher, capture_memory),
        *(scaling_points, layer_points, matmul_rate),
    )
}


def main() -> None:
    # Lines of JSON have the standard output to themselves; what libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    side, work, options = sys.argv[1], Work(**json.loads(sys.argv[2])), json.loads(sys.argv[3])
    measure = SIDES[side](work, **options)
    print(json.dumps({"ready": side}), file=answers)
    for line in sys.stdin:
        print(json.dumps(measure(**json.loads(line))), file=answers)


if __name__ == "__main__":
    main()
