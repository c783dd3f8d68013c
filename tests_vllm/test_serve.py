"""A real server with the plugin gives what vLLM in this process gives, whoever else uses it, and keeps nothing."""

import json
import os
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from conftest import BUNDLED, OPTIONS, QUESTIONS, results
from exact import Exact
from inspect_ai.model import GenerateConfig, get_model
from safetensors.numpy import load
from test_capture import assert_same, assert_same_answers, mixed, sampled

from hneurons_eval.artifacts.contribution_shards import Contributions
from hneurons_eval.engine.engine import Engine
from hneurons_eval.engine.offsets import decode
from hneurons_eval.engine.requests import AnswerCapture, GenerateRequest
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.models.checkpoints import resolve_model
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.models.scaling import BASELINE, Intervention
from hneurons_eval.vllm.client import ClientEngine, ServerError, get_client_engine
from hneurons_eval.vllm.engine import VLLMEngine
from hneurons_eval.vllm.plugin import WORKER
from hneurons_eval.vllm.protocol import ABOUT, CAPTURES
from hneurons_eval.vllm.request_extras import RequestExtras
from hneurons_eval.vllm.serve import check_config

Draw = Callable[[int, int], NeuronSet]
Prompts = list[tuple[int, ...]]
KEY, NAME, KEEP = "open sesame", "small", 6.0
BLOCK = 32
"""Tokens in a block of the prefix cache."""
ALPHAS = (0.0, 0.5, 1.0, 2.0)


@contextmanager
def started(directory: Path, plugin: bool, *more: str) -> Iterator[str]:
    """The URL of a server on the bundled model, in float32; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "--model": resolve_model(BUNDLED),
        "--served-model-name": NAME,
        "--host": "127.0.0.1",
        "--port": port,
        "--api-key": KEY,
        "--dtype": "float32",
        "--block-size": BLOCK,
        "--max-model-len": OPTIONS["max_model_len"],
        "--max-num-seqs": OPTIONS["max_num_seqs"],
        "--kv-cache-memory-bytes": OPTIONS["kv_cache_memory_bytes"],
    }
    # Not what an engine in this process has set for itself.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    environment |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    environment |= {"VLLM_PLUGINS": "hneurons", "HNEURONS_VLLM_KEEP_SECONDS": str(KEEP)} if plugin else {}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += [str(part) for option in options.items() for part in option] + ["--enable-prefix-caching", *more]
    log = directory / "server.txt"
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(480):
            assert server.poll() is None, log.read_text()[-4000:]
            try:
                if httpx.get(url + "/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        else:
            raise AssertionError(log.read_text()[-4000:])
        yield url
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("server")
    with started(directory, True) as found:
        assert "NeuronWorker" in (directory / "server.txt").read_text()  # vLLM says what it has put into its workers
        yield found


@pytest.fixture(scope="module")
def client(url: str) -> ClientEngine:
    return get_client_engine(BUNDLED, url, KEY)


@pytest.fixture(scope="module")
def caller(url: str) -> Iterator[httpx.Client]:
    """Somebody who knows nothing of us but the routes."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=120) as client:
        yield client


def completion(caller: httpx.Client, tokens: Any, extras: Any = None, **more: Any) -> httpx.Response:
    body = {"model": NAME, "prompt": tokens, "max_tokens": 16, "temperature": 0, "return_token_ids": True} | more
    if extras is not None:
        body["vllm_xargs"] = {"hneurons": extras if isinstance(extras, str | int) else extras.to_text()}
    return caller.post("/v1/completions", json=body)


def said(response: httpx.Response) -> tuple[int, ...]:
    assert response.status_code == 200, response.text
    return tuple(response.json()["choices"][0]["token_ids"])


def tokens_from_cache(caller: httpx.Client) -> float:
    """Of how many tokens the prefix cache has spared the computation so far."""
    (line,) = [
        line for line in caller.get("/metrics").text.splitlines() if line.startswith("vllm:prefix_cache_hits_total")
    ]
    return float(line.split()[-1])


def kept(caller: httpx.Client) -> tuple[int, int]:
    """Of how many requests the server and its workers keep something."""
    about = caller.get(ABOUT).json()
    return about["captures"], about["held"]


def until(holds: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait until something holds; whether it did in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def nothing_stays(caller: httpx.Client) -> bool:
    return until(lambda: kept(caller) == (0, 0))


# ---- the same as in process ----


def test_given_responses_are_captured_as_in_process(
    client: ClientEngine, engine: VLLMEngine, prompts: Prompts, some_neurons: Draw, exact: Exact
):
    requests = mixed(prompts, engine.tokenizer, some_neurons)
    chosen = some_neurons(9, 20)
    requests += [replace(requests[0], per_token=chosen)]
    found = results([client.capture(request) for request in requests])
    expected = results([engine.capture(request) for request in requests])
    assert_same(found, expected, requests, exact)
    own, start = exact.of(requests[-1].tokens), requests[-1].response_from
    assert len(found[-1].per_token) == len(requests[-1].tokens) - start
    exact.check_per_token(found[-1].per_token, own, start, chosen.flat(exact.layout))


def test_answers_are_captured_while_they_are_generated_as_in_process(
    client: ClientEngine,
    engine: VLLMEngine,
    prompts: Prompts,
    some_neurons: Draw,
    caller: httpx.Client,
    exact: Exact,
):
    chosen = some_neurons(9, 20)
    per_token = AnswerCapture(lambda text: (0, len(text)), "max", other=True, per_token=chosen)
    requests = [
        *sampled(prompts),
        *sampled(prompts[:3], intervention=Intervention(some_neurons(4, 3000), 0.0)),
        *sampled(prompts[:2], capture=per_token),
        *sampled(prompts[:2], max_tokens=1),
    ]
    (whole,) = results([engine.generate(requests[0])])
    requests += sampled(prompts[:1], stop=(whole.text[5:8],))  # one that ends within a token
    found = results([client.generate(request) for request in requests])
    expected = results([engine.generate(request) for request in requests])
    assert_same_answers(found, expected, requests, exact)
    own = exact.of(requests[9].prompt + found[9].tokens)
    assert len(found[9].captured.per_token) == found[9].captured.response_tokens
    exact.check_per_token(found[9].captured.per_token, own, len(requests[9].prompt), chosen.flat(exact.layout))
    assert nothing_stays(caller)


def test_alphas_in_one_batch_with_other_callers_say_what_each_says_alone(
    client: ClientEngine,
    engine: VLLMEngine,
    reference: Engine,
    prompts: Prompts,
    some_neurons: Draw,
    caller: httpx.Client,
    exact: Exact,
):
    neurons = some_neurons(7, 4000)
    requests = [
        GenerateRequest(prompt, 16, SamplingOptions(0.0), intervention=Intervention(neurons, alpha))
        for alpha in ALPHAS
        for prompt in prompts
    ]
    with ThreadPoolExecutor(len(prompts)) as others:
        futures = [client.generate(request) for request in requests]
        plain = [others.submit(completion, caller, list(prompt)) for prompt in prompts]
        found = [answer.tokens for answer in results(futures)]
    for other in (engine, reference):
        expected = [answer.tokens for answer in results([other.generate(request) for request in requests])]
        exact.check_tokens(requests, found, expected)
    at_one = slice(2 * len(prompts), 3 * len(prompts))  # alpha 1 is the plain model, whoever else is there
    exact.check_tokens(requests[at_one], [said(future.result()) for future in plain], found[at_one])
    by_alpha = [found[k * len(prompts) : (k + 1) * len(prompts)] for k in range(len(ALPHAS))]
    assert len(set(map(str, by_alpha))) == len(ALPHAS)


def test_a_seed_decides_what_is_sampled_here_and_there(
    client: ClientEngine, engine: VLLMEngine, prompts: Prompts, exact: Exact
):
    # vLLM too divides probabilities by noise of the seed. Errors of 1e-4 change one of these 72 tokens with a
    # probability of about 0.01, so on some machine one text of six may differ.
    requests = [
        GenerateRequest(prompts[0], 12, SamplingOptions(1.0, 50, 0.9), seed=seed, top_logprobs=3) for seed in range(6)
    ]
    found = results([client.generate(request) for request in requests])
    expected = results([engine.generate(request) for request in requests])
    pairs = list(zip(found, expected, strict=True))
    assert sum(ours.tokens != theirs.tokens for ours, theirs in pairs) <= 1
    assert len({answer.tokens for answer in found}) > 1
    for ours, theirs in pairs:
        error = exact.logprob_error(exact.of(prompts[0] + theirs.tokens))
        for entry, same in zip(ours.logprobs, theirs.logprobs, strict=True):
            if entry.token != same.token:
                break
            assert entry.logprob == pytest.approx(same.logprob, abs=error)
            levels, others = ([level for _, level in one.top] for one in (entry, same))
            assert levels == pytest.approx(others, abs=error)


def test_the_provider_gives_the_same_through_inspect(
    url: str, tmp_path: Path, some_neurons: Draw, prompts: Prompts, exact: Exact
):
    import asyncio

    from hneurons_eval.artifacts.paths import store_of

    neurons = some_neurons(4, 3000)
    neurons.save(tmp_path / "neurons.json")
    args = {"neurons": str(tmp_path / "neurons.json"), "alpha": 0.5}
    models = {
        "server": get_model(f"hneurons-vllm/{BUNDLED}", base_url=url, api_key=KEY, **args),
        "process": get_model(f"hneurons-vllm/{BUNDLED}", dtype="float32", **args, **OPTIONS),
    }
    bodies = ({"capture": {"span": "response"}}, {"loglikelihood": " Paris."}, {"completion": True})

    async def ask(model: Any, body: dict[str, Any]) -> Any:
        config = GenerateConfig(max_tokens=8, temperature=0.0, logprobs=True, extra_body={"hneurons": body})
        return await model.generate(QUESTIONS[0], config=config)

    async def both(body: dict[str, Any]) -> list[Any]:
        return [await ask(model, body) for model in models.values()]

    rows: list[Contributions] = []
    for body in bodies:
        ours, theirs = asyncio.run(both(body))
        assert ours.completion == theirs.completion
        found, expected = ours.metadata or {}, theirs.metadata or {}
        assert found.keys() == expected.keys()
        if "capture" in body:
            keys = [one["hneurons"]["contributions"] for one in (found, expected)]
            assert keys[0] == keys[1]  # the same content, hence one row for both
            rows.append(store_of(keys[:1]).get(keys[0]))
        if "loglikelihood" in body:
            assert found["hneurons"]["tokens"] == expected["hneurons"]["tokens"]
            error = found["hneurons"]["tokens"] * exact.logprob_error(exact.of(prompts[0]))
            assert found["hneurons"]["loglikelihood"] == pytest.approx(expected["hneurons"]["loglikelihood"], abs=error)
    assert rows[0].values.max() > 0


# ---- anybody's requests ----


def test_other_clients_scale_by_vllm_xargs_and_never_get_anothers_prefix(
    reference: Engine, some_neurons: Draw, caller: httpx.Client, exact: Exact
):
    sets = [some_neurons(seed, 8000) for seed in (17, 18)]
    variants = [(None, 1.0), (sets[0], 0.0), (sets[1], 0.0), (sets[0], 2.0)]
    text = "Rye bread is baked from flour, water and salt. Wheat bread is baked from flour, water, salt and yeast. " * 2
    prompt = tuple(reference.tokenizer(text, add_special_tokens=False)["input_ids"])
    before, found = tokens_from_cache(caller), []
    for neurons, alpha in [*variants, *variants]:  # one after the other: each may find the prefixes of those before
        flat = () if neurons is None else tuple(neurons.flat(reference.layout).tolist())
        extras = None if neurons is None else RequestExtras(neurons=flat, alpha=alpha)
        found.append(said(completion(caller, list(prompt), extras, max_tokens=8)))
    requests = [
        GenerateRequest(prompt, 8, SamplingOptions(0.0), intervention=Intervention(neurons, alpha))
        for neurons, alpha in variants
    ]
    expected = [answer.tokens for answer in results([reference.generate(request) for request in requests])]
    exact.check_tokens(requests * 2, found, expected * 2)
    assert len(set(expected)) >= 3
    # The second time, each found its own, but for the last block, and none had found another's.
    own = 4 * ((len(prompt) - 1) // BLOCK * BLOCK)
    assert own > 0
    # The server counts behind its answers.
    assert until(lambda: tokens_from_cache(caller) - before >= own)
    assert tokens_from_cache(caller) - before == own


def test_chats_are_scaled_too(reference: Engine, prompts: Prompts, some_neurons: Draw, caller: httpx.Client):
    neurons = some_neurons(7, 4000)
    extras = RequestExtras(neurons=tuple(neurons.flat(reference.layout).tolist()), alpha=0.0)
    body = {
        "model": NAME,
        "messages": [{"role": "user", "content": QUESTIONS[0]}],
        "max_tokens": 16,
        "temperature": 0,
        "vllm_xargs": {"hneurons": extras.to_text()},
    }
    answer = caller.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    request = GenerateRequest(prompts[0], 16, SamplingOptions(0.0), intervention=Intervention(neurons, 0.0))
    expected = reference.generate(request).result(60)
    assert answer == decode(reference.tokenizer, expected.tokens)
    assert answer != reference.generate(replace(request, intervention=BASELINE)).result(60).text


def test_other_clients_fetch_contributions_over_http(prompts: Prompts, caller: httpx.Client, exact: Exact):
    prompt = prompts[0]
    extras = RequestExtras(key="mine", regions=(((0, len(prompt)),),), keep_from=len(prompt))
    tokens = said(completion(caller, list(prompt), extras, max_tokens=4))
    wanted = {"regions": [[0, []], [None, [[len(prompt), len(prompt) + 2]]]]}
    response = caller.post(f"{CAPTURES}/mine", json=wanted)
    assert response.status_code == 200
    values = load(response.content)["values"]
    regions = [range(len(prompt)), range(len(prompt), len(prompt) + 2)]
    exact.check_contributions(values, exact.of(prompt + tokens), regions)
    assert caller.post(f"{CAPTURES}/mine", json=wanted).status_code == 404  # it was forgotten with that


@pytest.mark.parametrize(
    ("extras", "more", "status", "message"),
    [
        ("{", {}, 400, "Invalid JSON"),
        (5, {}, 400, "JSON input should be string"),
        ("[]", {}, 400, "an object"),
        ('{"neurons": [46080], "alpha": 0}', {}, 400, "the model has 46080 neurons"),
        ('{"neurons": "abc", "alpha": 0}', {}, 404, "no neurons with the digest abc"),
        ('{"key": "a", "regions": [[[0, 9]]]}', {}, 400, "reach to position 9 of a prompt of 3"),
        ('{"key": "a", "regions": [[[0, 1]]]}', {"n": 2, "temperature": 1}, 400, "found n=2"),
        ('{"key": "a", "regions": [[[0, 1]]]}', {"prompt": [[1, 2], [3, 4]]}, 400, "'a' is in use"),
    ],
)
def test_what_the_workers_could_not_do_is_refused_and_the_server_goes_on(
    extras: Any, more: dict[str, Any], status: int, message: str, caller: httpx.Client
):
    response = completion(caller, [1, 2, 3], extras, **more)
    assert (response.status_code, message in response.text) == (status, True), response.text
    assert said(completion(caller, [1, 2, 3], max_tokens=1))
    assert nothing_stays(caller)


def test_routes_are_guarded_by_the_servers_own_key_and_refuse_what_is_wrong(url: str, caller: httpx.Client):
    for method, path in (("GET", ABOUT), ("POST", f"{CAPTURES}/a"), ("DELETE", f"{CAPTURES}/a")):
        assert httpx.request(method, url + path).status_code == 401
    assert caller.delete(f"{CAPTURES}/a").status_code == 404
    assert caller.put("/v1/hneurons/neurons/abc", content=b"[1]").status_code == 400
    assert caller.put("/v1/hneurons/neurons/abc", content=b" " * 2**20).status_code == 400
    extras = RequestExtras(key="b", regions=(((0, 1),),))
    said(completion(caller, [1, 2, 3], extras, max_tokens=1))
    response = caller.post(f"{CAPTURES}/b", json={"regions": [[1, []]]})
    assert (response.status_code, "region 1 is not one of the 1" in response.text) == (400, True)
    assert caller.delete(f"{CAPTURES}/b").status_code == 204
    assert kept(caller) == (0, 0)


# ---- nothing stays ----


def test_what_is_broken_off_or_never_fetched_does_not_stay(
    client: ClientEngine, prompts: Prompts, caller: httpx.Client
):
    futures = [client.generate(request) for request in sampled(prompts, max_tokens=400)]
    assert until(lambda: kept(caller)[1] == len(prompts))
    assert all(future.cancel() for future in futures)
    assert nothing_stays(caller)  # one that has not ended does not expire either
    said(completion(caller, [1, 2, 3], RequestExtras(key="c", regions=(((0, 1),),)), max_tokens=1))
    body = {"model": NAME, "prompt": list(prompts[0]), "max_tokens": 400, "stream": True, "ignore_eos": True}
    body["vllm_xargs"] = {"hneurons": RequestExtras(key="d", regions=(((0, 1),),), keep_from=1).to_text()}
    with caller.stream("POST", "/v1/completions", json=body) as response:
        next(response.iter_lines())
        assert kept(caller)[0] >= 1
    assert nothing_stays(caller)  # the one in the stream at once, the other when it expires
    assert caller.post(f"{CAPTURES}/c", json={"regions": None}).status_code == 404


# ---- what is refused ----


def test_another_checkpoint_another_dtype_and_another_key_are_refused(url: str, tmp_path: Path):
    source = Path(resolve_model(BUNDLED))
    for file in source.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    config = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"rope_theta": 20_000.0}))
    with pytest.raises(ServerError, match="has another checkpoint"):
        ClientEngine(str(tmp_path), url, KEY)
    with pytest.raises(ServerError, match="computes in float32, not bfloat16"):
        ClientEngine(BUNDLED, url, KEY, dtype="bfloat16")
    with pytest.raises(ServerError, match="refuses the API key"):
        ClientEngine(BUNDLED, url, "wrong")


def test_settings_that_the_hooks_do_not_cover_are_refused_by_name():
    parallel = SimpleNamespace(worker_extension_cls=WORKER, pipeline_parallel_size=1, data_parallel_size=1)
    model = SimpleNamespace(quantization=None)
    config = SimpleNamespace(
        parallel_config=parallel,
        model_config=model,
        speculative_config=None,
        lora_config=None,
        kv_transfer_config=None,
    )
    check_config(config, Namespace(api_server_count=None))
    with pytest.raises(ValueError, match="does not cover --api-server-count"):
        check_config(config, Namespace(api_server_count=2))
    config.lora_config, parallel.worker_extension_cls = object(), "theirs.Extension"
    with pytest.raises(ValueError, match="does not cover --worker-extension-cls, --enable-lora: tokens"):
        check_config(config, Namespace(api_server_count=1))


def test_a_server_without_the_plugin_is_as_it_always_was_and_is_refused(tmp_path: Path):
    refused = pytest.raises(ServerError, match="gives no access to neurons; start vLLM with VLLM_PLUGINS=hneurons")
    with started(tmp_path, False, "--enforce-eager") as url, refused:
        ClientEngine(BUNDLED, url, KEY)
    assert "NeuronWorker" not in (tmp_path / "server.txt").read_text()
