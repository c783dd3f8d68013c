"""lm-evaluation-harness on a scaled model gives the log-likelihoods and texts of that model, by code and by command."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from hneurons_eval.cli import lm_eval as command
from hneurons_eval.cli import main
from hneurons_eval.engine.lm_eval import ScaledLM, with_underscores
from hneurons_eval.models.checkpoints import load_model, load_tokenizer
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.models.scaling import scaled
from hneurons_eval.util.errors import UsageError

Make = Callable[..., Path]
LAYOUT = NeuronLayout((40, 40, 40))
SOME = NeuronSet.from_flat(range(0, 120, 2), LAYOUT)
PAIRS = [("The capital of France is", " Paris"), ("One and one is", " two, of course"), ("Water", " is wet")]


@pytest.fixture
def file(tmp_path: Path) -> str:
    SOME.save(tmp_path / "n.json")
    return str(tmp_path / "n.json")


@contextmanager
def reference(checkpoint: Path, alpha: float) -> Iterator[Any]:
    model: Any = load_model(checkpoint, dtype="float32")
    with scaled(model, SOME, alpha), torch.no_grad():
        yield model


def loglikelihood(model: Any, tokenizer: Any, context: str, continuation: str) -> tuple[float, bool]:
    """The sum of log-probabilities of the continuation's tokens, and whether each is the likeliest."""
    whole = tokenizer(context + continuation).input_ids
    start = len(tokenizer(context).input_ids)
    logprobs = model(torch.tensor([whole])).logits[0].log_softmax(dim=-1)[start - 1 : -1]
    tokens = torch.tensor(whole[start:])
    greedy = bool((logprobs.argmax(dim=-1) == tokens).all())
    return float(logprobs.gather(1, tokens[:, None]).sum()), greedy


def generation(model: Any, tokenizer: Any, context: str, tokens: int) -> str:
    ids = tokenizer(context, return_tensors="pt").input_ids
    out = model.generate(ids, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0)
    return tokenizer.decode(out[0, ids.shape[1] :])


def asked(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, one, number) for number, one in enumerate(arguments)]


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_loglikelihoods_are_those_of_the_scaled_model(tiny_checkpoint: Make, file: str, alpha: float):
    checkpoint = tiny_checkpoint()
    model = ScaledLM(str(checkpoint), neurons=file, alpha=alpha, dtype="float32", device="cpu", batch_size=2)
    found = model.loglikelihood(asked("loglikelihood", *PAIRS), disable_tqdm=True)
    tokenizer = load_tokenizer(checkpoint)
    with reference(checkpoint, alpha) as plain:
        expected = [loglikelihood(plain, tokenizer, *pair) for pair in PAIRS]
    for (value, greedy), (by_hand, greedy_by_hand) in zip(found, expected, strict=True):
        assert value == pytest.approx(by_hand, abs=1e-3)
        assert greedy == greedy_by_hand
    if alpha != 1.0:
        with reference(checkpoint, 1.0) as plain:
            unscaled = [loglikelihood(plain, tokenizer, *pair)[0] for pair in PAIRS]
        assert max(abs(value - other) for (value, _), other in zip(found, unscaled, strict=True)) > 0.1


def test_the_sign_says_which_neurons_are_scaled(tiny_checkpoint: Make, tmp_path: Path):
    weights = np.where(np.arange(len(SOME)) % 2, 1.0, -1.0)
    whole = NeuronSet(SOME.layers, SOME.indices, weights, widths=LAYOUT.widths)
    whole.save(tmp_path / "n.json")
    found = {}
    for sign in ("positive", "negative", "both", None):
        more = {} if sign is None else {"sign": sign}
        model = ScaledLM(
            str(tiny_checkpoint()), neurons=str(tmp_path / "n.json"), alpha=0.0, dtype="float32", device="cpu", **more
        )
        found[sign] = model.loglikelihood(asked("loglikelihood", *PAIRS), disable_tqdm=True)[0][0]
    assert found[None] == found["positive"]
    assert len({round(value, 6) for value in found.values()}) == 3
    checkpoint, plain = tiny_checkpoint(), load_model(tiny_checkpoint(), dtype="float32")
    for sign in ("positive", "negative", "both"):
        with scaled(plain, whole.of_sign(sign), 0.0), torch.no_grad():
            by_hand = loglikelihood(plain, load_tokenizer(checkpoint), *PAIRS[0])[0]
        assert found[sign] == pytest.approx(by_hand, abs=1e-3)
    whole.negative.save(tmp_path / "n.json")
    with pytest.raises(UsageError, match="none of them with a positive weight"):
        ScaledLM(str(tiny_checkpoint()), neurons=str(tmp_path / "n.json"), alpha=0.0, device="cpu")


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_texts_are_those_of_the_scaled_model(tiny_checkpoint: Make, file: str, alpha: float):
    checkpoint = tiny_checkpoint()
    model = ScaledLM(str(checkpoint), neurons=file, alpha=alpha, dtype="float32", device="cpu", batch_size=1)
    options = {"until": [], "do_sample": False, "max_gen_toks": 6, "min_new_tokens": 6}
    found = model.generate_until(asked("generate_until", *((c, dict(options)) for c, _ in PAIRS)), disable_tqdm=True)
    tokenizer = load_tokenizer(checkpoint)
    with reference(checkpoint, alpha) as plain:
        expected = [generation(plain, tokenizer, context, 6) for context, _ in PAIRS]
    assert found == expected
    with reference(checkpoint, 1.0) as plain:
        assert expected != [generation(plain, tokenizer, context, 6) for context, _ in PAIRS]


def a_task(directory: Path) -> None:
    """A task of the harness in a directory: two questions of two choices each, from a file beside it."""
    rows = [
        {"question": "The capital of France is", "choices": [" Paris", " Rome"], "answer": 0},
        {"question": "One and one is", "choices": [" three", " two"], "answer": 1},
    ]
    (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "own_choices.yaml").write_text(
        f"""task: own_choices
dataset_path: json
dataset_kwargs:
  data_files:
    test: {directory / "rows.jsonl"}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
target_delimiter: ""
metric_list:
  - metric: acc
"""
    )


def test_the_command_runs_a_task_of_the_harness(
    tiny_checkpoint: Make, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    checkpoint = tiny_checkpoint()
    a_task(tmp_path)
    before = list(sys.argv)
    model_args = f"pretrained={checkpoint},neurons={file},alpha=0,dtype=float32"
    options = f"--tasks own_choices --include-path={tmp_path} --device cpu --log-samples --output-path {tmp_path}/out"
    arguments = ["lm-eval", "--model-args", model_args, *options.split()]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert sys.argv == before
    (samples,) = (tmp_path / "out").rglob("samples_own_choices*.jsonl")
    rows = sorted((json.loads(line) for line in samples.read_text().splitlines()), key=lambda row: row["doc_id"])
    tokenizer = load_tokenizer(checkpoint)
    with reference(checkpoint, 0.0) as plain:
        for row in rows:
            for choice, (value, _) in zip(row["doc"]["choices"], row["filtered_resps"], strict=True):
                by_hand, _ = loglikelihood(plain, tokenizer, row["doc"]["question"], choice)
                assert float(value) == pytest.approx(by_hand, abs=1e-3)
    assert "own_choices" in done.output


def test_the_harness_knows_the_model_by_its_name(tiny_checkpoint: Make, file: str):
    known: Any = get_model("hneurons")
    made = known.create_from_arg_string(
        f"pretrained={tiny_checkpoint()},neurons={file},alpha=0.5,dtype=float32", {"device": "cpu"}
    )
    assert isinstance(made, ScaledLM)


def test_neurons_and_alpha_go_together_and_are_checked_before_the_model_is_loaded(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("lm_eval.models.huggingface.HFLM.__init__", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ValueError, match="add alpha=NUMBER"):
        ScaledLM("no/model", neurons=file)
    with pytest.raises(ValueError, match="add neurons=FILE"):
        ScaledLM("no/model", alpha=0.0)
    with pytest.raises(ValueError, match="alpha should be"):
        ScaledLM("no/model", neurons=file, alpha="much")
    with pytest.raises(UsageError, match="does not exist"):
        ScaledLM("no/model", neurons=str(tmp_path / "none.json"), alpha=0.0)


def test_neurons_of_another_model_are_refused(tiny_checkpoint: Make, tmp_path: Path):
    NeuronSet.from_flat([0], NeuronLayout((41, 40, 40))).save(tmp_path / "n.json")
    with pytest.raises(NeuronSetError, match="use neurons found in this model"):
        ScaledLM(str(tiny_checkpoint()), neurons=str(tmp_path / "n.json"), alpha=0.0, device="cpu")


@pytest.mark.parametrize("arguments", [("--model", "hf"), ("-m", "hf"), ("--model=hf",)])
def test_another_model_is_refused(arguments: tuple[str, ...]):
    done = CliRunner().invoke(main, ["lm-eval", *arguments, "--tasks", "x"])
    assert done.exit_code == 1
    assert "the model is always hneurons" in done.output


def test_without_the_harness_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    done = CliRunner().invoke(main, ["lm-eval", "--tasks", "x"])
    assert done.exit_code == 1
    assert done.output.startswith("Error: lm-evaluation-harness is not installed; run: pip install")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--model-args", "--model_args"),
        ("--include-path=/a-b/c-d", "--include_path=/a-b/c-d"),
        ("pretrained=a-b,alpha=0", "pretrained=a-b,alpha=0"),
        ("-b", "-b"),
        ("--tasks", "--tasks"),
    ],
)
def test_only_the_names_of_options_are_respelt(given: str, expected: str):
    assert with_underscores(given) == expected
