"""What is exported is what folding makes, bit for bit, and says what it says; in little memory, whole or not at all."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from families import FAMILIES
from huggingface_hub.repocard import metadata_load
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor

from hneurons_eval.cli import main
from hneurons_eval.models.architecture import neuron_layout
from hneurons_eval.models.checkpoints import CheckpointError, fingerprint, load_model, load_tokenizer, resolve_model
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.models.scaling import fold, scaled
from hneurons_eval.models.weights import export as export_module
from hneurons_eval.models.weights.export import ExportError, export_adapter, export_checkpoint
from hneurons_eval.models.weights.patcher import Matrix

Make = Callable[..., Any]
LAYOUT = NeuronLayout((40, 40, 40))
SOME = NeuronSet.from_flat([0, 3, 39, 80, 95, 119], LAYOUT, model="a-model")  # none in the middle layer


def spread(layout: NeuronLayout) -> NeuronSet:
    """Neurons in every layer, at the ends of every layer, and in every part and expert of the tiny mixtures."""
    ends = [*layout.starts[:-1], *(layout.starts[1:] - 1)]
    return NeuronSet.from_flat(np.unique([*ends, *range(5, layout.total, 7)]), layout)


def saved(tiny_model: Make, directory: Path, name: str = "llama", dtype: str = "float32", **options: Any) -> Path:
    shard = options.pop("max_shard_size", "5GB")
    tiny_model(name, dtype=dtype, **options).save_pretrained(directory, max_shard_size=shard)
    return directory


def content(model: Any) -> dict[str, bytes]:
    return {name: value.contiguous().view(torch.uint8).numpy().tobytes() for name, value in model.state_dict().items()}


def folded(directory: Path, neurons: NeuronSet, alpha: float) -> Any:
    model = load_model(directory)
    fold(model, neurons, alpha)
    return model


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- the checkpoint -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_exported_is_what_folding_makes_bit_for_bit(tiny_model: Make, tmp_path: Path, name: str):
    source = saved(tiny_model, tmp_path / "model", name)
    neurons = spread(neuron_layout(tiny_model(name)))
    done = export_checkpoint(source, neurons, 0.3, tmp_path / "out")
    assert content(load_model(tmp_path / "out")) == content(folded(source, neurons, 0.3))
    assert content(load_model(tmp_path / "out")) != content(load_model(source))
    assert sum(done.layers.values()) == len(neurons)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "gpt_oss"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 3.0])
def test_half_precision_is_kept_and_rounded_as_folding_rounds(
    tiny_model: Make, tmp_path: Path, name: str, dtype: str, alpha: float
):
    source = saved(tiny_model, tmp_path / "model", name, dtype)
    neurons = spread(neuron_layout(tiny_model(name)))
    export_checkpoint(source, neurons, alpha, tmp_path / "out")
    made: Any = load_model(tmp_path / "out")
    assert made.dtype == getattr(torch, dtype)
    assert content(made) == content(folded(source, neurons, alpha))


def test_only_the_columns_are_changed_in_the_files(tiny_model: Make, tmp_path: Path):
    source = saved(tiny_model, tmp_path / "model")
    done = export_checkpoint(source, SOME, 0.0, tmp_path / "out")
    assert done.layers == {0: 3, 2: 3}
    assert done.matrices == 2
    before, after = (load_file(path / "model.safetensors") for path in (source, tmp_path / "out"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 2)}
    for name in changed:
        own = SOME.indices[SOME.layers == int(name.split(".")[2])]
        expected = before[name].clone()
        expected[:, own] = 0.0
        assert torch.equal(after[name], expected)
    old, new = ((path / "model.safetensors").read_bytes() for path in (source, tmp_path / "out"))
    header = 8 + struct.unpack("<Q", old[:8])[0]
    assert old[:header] == new[:header]


def test_shards_stay_as_they_are(tiny_model: Make, tmp_path: Path):
    source = saved(tiny_model, tmp_path / "model", max_shard_size="8KB")
    shards = sorted(path.name for path in source.glob("*.safetensors"))
    assert len(shards) > 3
    export_checkpoint(source, SOME, 2.0, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.safetensors")) == shards
    index = "model.safetensors.index.json"
    assert (tmp_path / "out" / index).read_bytes() == (source / index).read_bytes()
    assert content(load_model(tmp_path / "out")) == content(folded(source, SOME, 2.0))


def test_alpha_one_is_the_model_itself(tiny_model: Make, tmp_path: Path):
    source = saved(tiny_model, tmp_path / "model", dtype="bfloat16")
    export_checkpoint(source, SOME, 1.0, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_what_a_checkpoint_needs_goes_along_and_nothing_else(tiny_checkpoint: Make, tmp_path: Path):
    source = tmp_path / "model"
    shutil.copytree(tiny_checkpoint(), source)
    (source / "generation_config.json").write_text('{"temperature": 0.5, "do_sample": true}')
    (source / "merges.txt").write_text("a b")
    (source / "LICENSE").write_text("yours")
    (source / "additional_chat_templates").mkdir()
    (source / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
    kept = sorted([*leftovers(source), "README.md", "neurons.json"])
    for name in (
        "README.md",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "consolidated.safetensors",
        ".secret",
    ):
        (source / name).write_text("no")
    (source / "modeling_own.py").write_text("raise SystemExit")
    export_checkpoint(source, SOME, 0.0, tmp_path / "out")
    assert leftovers(tmp_path / "out") == kept
    for name in set(kept) - {"README.md", "neurons.json", "model.safetensors", "additional_chat_templates"}:
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()
    assert load_tokenizer(tmp_path / "out")("Paris").input_ids == load_tokenizer(source)("Paris").input_ids
    assert NeuronSet.load(tmp_path / "out" / "neurons.json") == SOME


def test_code_of_a_checkpoint_goes_along_where_it_is_trusted(tiny_checkpoint: Make, tmp_path: Path):
    source = tmp_path / "model"
    shutil.copytree(tiny_checkpoint(), source)
    (source / "modeling_own.py").write_text("# code")
    export_checkpoint(source, SOME, 0.0, tmp_path / "out", trust_remote_code=True)
    assert (tmp_path / "out" / "modeling_own.py").read_text() == "# code"


def test_the_bundled_model_exported_says_what_it_says_when_scaled(tmp_path: Path):
    bundled = resolve_model("smollm2-135m-instruct")
    tokenizer: Any = load_tokenizer(bundled)
    layout = NeuronLayout((1536,) * 30)
    neurons = NeuronSet.from_flat(np.random.default_rng(0).choice(layout.total, 400, replace=False), layout)
    prompts = ["The capital of France is", "Water is made of", "The author of Hamlet is"]

    def said(model: Any) -> list[str]:
        texts = []
        for prompt in prompts:
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            with torch.no_grad():
                out = model.generate(ids, do_sample=False, max_new_tokens=12, pad_token_id=0)
            texts.append(tokenizer.decode(out[0]))
        return texts

    model: Any = load_model("smollm2-135m-instruct", dtype="float32")
    plain = said(model)
    with scaled(model, neurons, 3.0):
        expected = said(model)
    assert expected != plain
    del model
    export_checkpoint("smollm2-135m-instruct", neurons, 3.0, tmp_path / "out")
    assert said(load_model(tmp_path / "out", dtype="float32")) == expected
    assert fingerprint(tmp_path / "out") != fingerprint(bundled)


MEASURE = """
import resource, sys
from pathlib import Path
import numpy as np
from hneurons_eval.models.checkpoints import load_layout
from hneurons_eval.models.weights.export import export_checkpoint
from hneurons_eval.models.neuron_set import NeuronSet
source, out = sys.argv[1:]
layout = load_layout(source)
neurons = NeuronSet.from_flat(np.arange(0, layout.total, 97), layout)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
export_checkpoint(source, neurons, 0.5, out)
print(peak() - before)
"""


def test_the_memory_it_takes_is_of_a_matrix_and_not_of_the_model(tiny_model: Make, tmp_path: Path):
    wide: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8}
    source = saved(tiny_model, tmp_path / "model", **wide)
    size = (source / "model.safetensors").stat().st_size
    assert size > 100e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "out")], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30e6  # a matrix has 4 MB


# --- refusals -----------------------------------------------------------------------------------------


def test_nothing_is_written_over(tiny_model: Make, tmp_path: Path):
    source = saved(tiny_model, tmp_path / "model")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "folder", "link"):
        for export in (export_checkpoint, export_adapter):
            with pytest.raises(ExportError, match=f"{name} exists"):
                export(source, SOME, 0.0, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert leftovers(tmp_path / "folder") == []


Change = Callable[[Path], object]


def config_with(**changes: Any) -> Change:
    def change(source: Path) -> None:
        path = source / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def as_bin(source: Path) -> None:
    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()


def index_to(text: str) -> Change:
    def change(source: Path) -> None:
        (source / "model.safetensors").rename(source / "model-1.safetensors")
        (source / "model.safetensors.index.json").write_text(text)

    return change


def tensors_changed(change: Callable[[dict[str, Tensor]], object]) -> Change:
    def rewrite(source: Path) -> None:
        tensors = load_file(source / "model.safetensors")
        change(tensors)
        save_file(tensors, source / "model.safetensors")

    return rewrite


DOWN = "model.layers.1.mlp.down_proj.weight"
REFUSED: dict[str, tuple[Change, str]] = {
    "quantised": (config_with(quantization_config={"quant_method": "gptq", "bits": 4}), r"quantised \(gptq\)"),
    "other weight files": (config_with(transformers_weights="other.safetensors"), "names other weight files"),
    "an adapter": (lambda source: (source / "adapter_config.json").write_text("{}"), "holds an adapter"),
    "no safetensors": (as_bin, "holds neither model.safetensors nor"),
    "an index that is none": (index_to("[]"), "is not an index of weights"),
    "an index that leads out": (index_to('{"weight_map": {"a": "../x"}}'), r"names the file '\.\./x'"),
    "a lost shard": (index_to('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'), "model-2"),
    "a cut file": (
        lambda source: os.truncate(source / "model.safetensors", 30_000),
        "lies outside the file|cannot be read",
    ),
    "an empty file": (lambda source: os.truncate(source / "model.safetensors", 0), "is not a safetensors file"),
    "a wrong header": (
        lambda source: (source / "model.safetensors").write_bytes(struct.pack("<Q", 4) + b"nope"),
        "cannot be read",
    ),
    "a missing matrix": (tensors_changed(lambda tensors: tensors.pop(DOWN)), f"stores no {re.escape(DOWN)}"),
    "another shape": (
        tensors_changed(lambda tensors: tensors.update({DOWN: tensors[DOWN][:, :-1].contiguous()})),
        "does not store",
    ),
    "whole numbers": (
        tensors_changed(lambda tensors: tensors.update({DOWN: tensors[DOWN].to(torch.int8)})),
        r"is quantised \(I8\)",
    ),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("export", [export_checkpoint, export_adapter])
def test_what_cannot_be_exported_is_refused_and_nothing_is_left(
    tiny_model: Make, tmp_path: Path, change: Change, said: str, export: Callable[..., Any]
):
    source = saved(tiny_model, tmp_path / "model")
    change(source)
    with pytest.raises(ExportError, match=said):
        export(source, SOME, 0.0, tmp_path / "out")
    assert leftovers(tmp_path) == ["model"]


def test_neurons_and_alphas_that_do_not_fit_are_refused(tiny_model: Make, tmp_path: Path):
    source, out = saved(tiny_model, tmp_path / "model"), tmp_path / "out"
    with pytest.raises(NeuronSetError, match="use neurons found in this model"):
        export_checkpoint(source, NeuronSet.from_flat([1], NeuronLayout((41, 40, 40))), 0.0, out)
    with pytest.raises(ExportError, match="the neuron set is empty"):
        export_checkpoint(source, NeuronSet.from_flat([], LAYOUT), 0.0, out)
    for alpha in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="alpha should be"):
            export_checkpoint(source, SOME, alpha, out)
    with pytest.raises(CheckpointError, match="no model directory"):
        export_checkpoint(tmp_path / "no-such", SOME, 0.0, out)
    assert leftovers(tmp_path) == ["model"]


def test_a_form_in_which_columns_cannot_be_found_is_refused_by_name(
    tiny_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from transformers import conversion_mapping
    from transformers.core_model_loading import Transpose, WeightConverter

    source = saved(tiny_model, tmp_path / "model")
    turned = WeightConverter(r"mlp\.down_proj\.weight", r"mlp\.down_proj\.weight", operations=[Transpose(0, 1)])
    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", lambda _: [turned])
    with pytest.raises(ExportError, match=r"layers\.0\.mlp\.down_proj\.weight.*by Transpose.*hneurons_eval\.fold"):
        export_checkpoint(source, SOME, 0.0, tmp_path / "out")


def test_a_full_disk_is_seen_before_anything_is_written(
    tiny_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = saved(tiny_model, tmp_path / "model")
    monkeypatch.setattr(export_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=9))
    with pytest.raises(ExportError, match="9 are free"):
        export_checkpoint(source, SOME, 0.0, tmp_path / "deep" / "out")
    assert leftovers(tmp_path) == ["model"]


def test_a_failure_on_the_way_leaves_nothing(tiny_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source, done = saved(tiny_model, tmp_path / "model"), []
    before = (source / "model.safetensors").read_bytes()
    real = Matrix.multiply

    def fails(self: Matrix, directory: Path, columns: Tensor, alpha: float) -> None:
        if done:
            raise OSError("no space left on device")
        done.append(real(self, directory, columns, alpha))

    monkeypatch.setattr(Matrix, "multiply", fails)
    with pytest.raises(OSError, match="no space left"):
        export_checkpoint(source, SOME, 0.0, tmp_path / "out")
    assert leftovers(tmp_path) == ["model"]
    assert (source / "model.safetensors").read_bytes() == before


# --- the adapter --------------------------------------------------------------------------------------

LINEAR = ["llama", "llama-bias", "gpt2", "phi", "opt", "falcon", "gemma2", "gemma3", "stablelm"]


def uneven(model: Any) -> NeuronSet:
    """Neurons of every layer, of the first more than of the others."""
    layout = neuron_layout(model)
    flat = [
        int(layout.starts[layer]) + j
        for layer, width in enumerate(layout.widths)
        for j in range(0, width, 7 if layer else 3)
    ]
    return NeuronSet.from_flat(flat, layout)


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("alpha", [0.0, 2.5])
def test_the_adapter_by_hand_is_the_scaled_model(tiny_model: Make, tmp_path: Path, name: str, alpha: float):
    source = saved(tiny_model, tmp_path / "model", name)
    model: Any = load_model(source)
    neurons = uneven(model)
    done = export_adapter(source, neurons, alpha, tmp_path / "out")
    ids = torch.randint(0, 90, (2, 7), generator=torch.Generator().manual_seed(2))
    plain = logits(model, ids)
    with scaled(model, neurons, alpha):
        expected = logits(model, ids)
    assert (expected - plain).abs().max() > 1e-3
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert config["lora_alpha"] / config["r"] == 1
    assert config["r"] == done.rank
    handles = []
    for target in config["target_modules"]:
        A, B = (tensors.pop(f"base_model.model.{target}.lora_{side}.weight") for side in "AB")
        assert A.shape[0] == B.shape[1] == done.rank
        handles.append(
            model.get_submodule(target).register_forward_hook(
                lambda _, inputs, output, A=A, B=B: output + (inputs[0] @ A.T @ B.T).to(output.dtype)
            )
        )
    assert not tensors
    torch.testing.assert_close(logits(model, ids), expected, rtol=1e-4, atol=1e-4)
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("name", LINEAR)
def test_peft_loads_the_adapter_and_says_what_the_scaled_model_says(tiny_model: Make, tmp_path: Path, name: str):
    source = saved(tiny_model, tmp_path / "model", name)
    model: Any = load_model(source)
    neurons = uneven(model)
    export_adapter(source, neurons, 0.0, tmp_path / "out")
    ids = torch.randint(0, 90, (2, 7), generator=torch.Generator().manual_seed(2))
    with scaled(model, neurons, 0.0):
        expected = logits(model, ids)
        text = model.generate(input_ids=ids, do_sample=False, max_new_tokens=8, pad_token_id=0)
    adapted: Any = PeftModel.from_pretrained(load_model(source), str(tmp_path / "out")).eval()
    torch.testing.assert_close(logits(adapted, ids), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(adapted.generate(input_ids=ids, do_sample=False, max_new_tokens=8, pad_token_id=0), text)
    scalings = {one for module in adapted.modules() if isinstance(module, LoraLayer) for one in module.scaling.values()}
    assert scalings == {1.0}
    merged = adapted.merge_and_unload()
    torch.testing.assert_close(logits(merged, ids), expected, rtol=1e-4, atol=1e-4)


def test_the_rank_is_that_of_the_layer_with_most_and_the_rest_is_zero(tiny_model: Make, tmp_path: Path):
    source = saved(tiny_model, tmp_path / "model", dtype="bfloat16")
    neurons = NeuronSet.from_flat([1, 5, 7, 9, 100], LAYOUT)
    done = export_adapter(source, neurons, 0.25, tmp_path / "out")
    assert (done.rank, done.matrices, done.layers) == (4, 2, {0: 4, 2: 1})
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    prefix = "base_model.model.model.layers.2.mlp.down_proj"
    A, B = tensors[f"{prefix}.lora_A.weight"], tensors[f"{prefix}.lora_B.weight"]
    weight = load_file(source / "model.safetensors")["model.layers.2.mlp.down_proj.weight"].float()
    assert A.count_nonzero() == 1
    assert A[0, 20] == 1
    assert torch.equal(B[:, 0], -0.75 * weight[:, 20])
    assert not B[:, 1:].any()


@pytest.mark.parametrize(("name", "flat"), [("mixtral", [0, 200]), ("deepseek_v2", [0, 130])])
def test_mixtures_have_no_adapter_nor_have_their_dense_layers(
    tiny_model: Make, tmp_path: Path, name: str, flat: list[int]
):
    # PEFT would put that of a dense layer or of shared experts on the routed ones, without an error.
    source = saved(tiny_model, tmp_path / "model", name)
    neurons = NeuronSet.from_flat(flat, neuron_layout(tiny_model(name)))
    with pytest.raises(ExportError, match=r"routed experts \(model\.layers.*without --lora"):
        export_adapter(source, neurons, 0.0, tmp_path / "out")
    assert leftovers(tmp_path) == ["model"]


# --- the card -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("export", [export_checkpoint, export_adapter])
def test_the_card_says_what_was_done(tiny_model: Make, tmp_path: Path, export: Callable[..., Any]):
    source = saved(tiny_model, tmp_path / "model")
    (source / "README.md").write_text("---\nlicense: apache-2.0\nlicense_link: [x]\nlanguage: en\n---\n# A model\n")
    neurons = NeuronSet.from_flat(
        SOME.flat(LAYOUT), LAYOUT, model="org/a|model", provenance={"C": 3.5, "training_questions": ["q1", "q2"]}
    )
    export(source, neurons, 0.25, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    head = metadata_load(tmp_path / "out" / "README.md")
    assert head
    assert head["license"] == "apache-2.0"
    assert "license_link" not in head
    assert head["library_name"] == ("peft" if export is export_adapter else "transformers")
    assert "base_model" not in head  # a directory of this machine
    rows = {
        row.split(" | ")[0].strip("| "): row.split(" | ")[1].strip(" |") for row in text.splitlines() if " | " in row
    }
    assert rows["base model"] == str(source).replace("_", r"\_")
    assert rows["fingerprint"] == fingerprint(source)
    assert rows["neurons"] == "6 of 120"
    assert rows["digest of the neurons (SHA-256)"] == neurons.digest
    assert rows["alpha"] == "0.25"
    assert (rows["0"], rows["2"]) == ("3", "3")
    assert rows["C"] == "3.5"
    assert rows["training questions count"] == "2"
    assert "The training questions themselves are left out" in text
    exported = (tmp_path / "out" / "neurons.json").read_text()
    assert '"training_questions_count": 2' in exported
    assert "q1" not in exported
    assert r"org/a\|model" in text
    assert "q1" not in text


@pytest.mark.parametrize("export", [export_checkpoint, export_adapter])
def test_what_is_published_names_no_cache_of_this_machine(
    tiny_checkpoint: Make, tmp_path: Path, export: Callable[..., Any]
):
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / ("a" * 40)
    shutil.copytree(tiny_checkpoint(), snapshot)
    export(snapshot, SOME, 0.0, tmp_path / "out")
    texts = "".join(file.read_text() for file in (tmp_path / "out").iterdir() if file.suffix in (".md", ".json"))
    assert str(tmp_path) not in texts
    head = metadata_load(tmp_path / "out" / "README.md")
    assert head is not None
    assert head["base_model"] == "some/model"
    assert f"| revision | {'a' * 40} |" in texts


def test_an_adapter_to_the_bundled_model_names_it(tmp_path: Path):
    name = "smollm2-135m-instruct"
    neurons = NeuronSet.from_flat([5, 4000], NeuronLayout((1536,) * 30))
    export_adapter(name, neurons, 0.0, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == name
    text = (tmp_path / "out" / "README.md").read_text()
    assert resolve_model(name) not in text
    assert f'from_pretrained(resolve_model("{name}"))' in text


def test_a_card_with_somebody_elses_broken_head_is_written_all_the_same(tiny_model: Make, tmp_path: Path):
    source = saved(tiny_model, tmp_path / "model")
    for number, head in enumerate(["---\n: : :\n---\n", "---\n- a\n---\n", "\x00", "---\nlicense: {a: b}\n---\n"]):
        (source / "README.md").write_text(head)
        export_checkpoint(source, SOME, 0.0, tmp_path / str(number))
        head = metadata_load(tmp_path / str(number) / "README.md")
        assert head
        assert "license" not in head


# --- the command --------------------------------------------------------------------------------------


def hneurons(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, list(arguments))


def test_the_command_exports_and_says_so(tiny_checkpoint: Make, tmp_path: Path):
    SOME.save(tmp_path / "n.json")
    source, out = tiny_checkpoint(), tmp_path / "out"
    done = hneurons("export", f"hneurons/{source}", str(out), "--neurons", str(tmp_path / "n.json"), "--alpha", "0")
    assert done.exit_code == 0, done.output
    assert "6 neurons (positive) scaled by 0; by layer: 0: 3, 2: 3" in done.output
    assert content(load_model(out)) == content(folded(source, SOME, 0.0))
    again = hneurons("export", str(source), str(out), "--neurons", str(tmp_path / "n.json"), "--alpha", "0")
    assert again.exit_code == 1
    assert again.output == f"Error: {out} exists; give a directory that does not\n"
    lora = hneurons(
        "export", str(source), str(tmp_path / "lora"), "--neurons", str(tmp_path / "n.json"), "--alpha", "0", "--lora"
    )
    assert lora.exit_code == 0, lora.output
    assert "LoRA adapter of rank 3 on 2 maps" in lora.output


def test_the_command_scales_the_sign_that_it_is_told(tiny_checkpoint: Make, tmp_path: Path):
    weights = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    whole = NeuronSet(SOME.layers, SOME.indices, weights, widths=LAYOUT.widths)
    whole.save(tmp_path / "n.json")
    source = tiny_checkpoint()
    for sign, more in (("positive", ()), ("negative", ("--sign", "negative")), ("both", ("--sign", "both"))):
        out = tmp_path / sign
        done = hneurons("export", str(source), str(out), "--neurons", str(tmp_path / "n.json"), "--alpha", "0", *more)
        assert done.exit_code == 0, done.output
        assert f"{len(whole.of_sign(sign))} neurons ({sign}) scaled by 0" in done.output
        assert content(load_model(out)) == content(folded(source, whole.of_sign(sign), 0.0))
    whole.positive.save(tmp_path / "n.json")
    done = hneurons(
        "export", str(source), str(tmp_path / "x"), "--neurons", str(tmp_path / "n.json"), "--alpha", "0",
        "--sign", "negative",
    )  # fmt: skip
    assert done.exit_code == 1
    assert "none of them with a negative weight" in done.output
    assert not (tmp_path / "x").exists()


def test_a_model_in_the_hubs_cache_is_exported_with_its_commit(tiny_model: Make, tmp_path: Path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache" / "models--org--tiny"
    saved(tiny_model, repository / "snapshots" / commit, max_shard_size="8KB")
    (repository / "snapshots" / commit / "consolidated.safetensors").write_text("a second copy")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    SOME.save(tmp_path / "n.json")
    command = ["export", "org/tiny", "out", "--neurons", "n.json", "--alpha", "0"]
    done = subprocess.run(
        [sys.executable, "-c", "from hneurons_eval.cli import main; main()", *command],
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert content(load_model(tmp_path / "out")) == content(folded(repository / "snapshots" / commit, SOME, 0.0))
    assert not (tmp_path / "out" / "consolidated.safetensors").exists()
    head = metadata_load(tmp_path / "out" / "README.md")
    assert head
    assert (head["base_model"], head["base_model_relation"]) == ("org/tiny", "finetune")
    assert commit in (tmp_path / "out" / "README.md").read_text()
