"""`hneurons doctor` says what a model is and what it takes, from its configuration alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from families import make_config, make_model

from hneurons_eval.cli import main
from hneurons_eval.cli.doctor import LayerKind, diagnose
from hneurons_eval.models.architecture import neuron_layout
from hneurons_eval.models.checkpoints import CheckpointError
from hneurons_eval.models.layout import UnsupportedModelError
from hneurons_eval.util import memory

MakeCheckpoint = Callable[..., Path]
BUNDLED = "smollm2-135m-instruct"


def doctor(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["doctor", *arguments])


def configured(directory: Path, name: str, **overrides: Any) -> str:
    """A directory that holds a configuration and nothing else."""
    make_config(name, **overrides).save_pretrained(directory)
    assert [file.name for file in directory.iterdir()] == ["config.json"]
    return str(directory)


def test_the_figures_are_those_of_the_bundled_model():
    found = diagnose(BUNDLED, responses=250)
    assert (found.model_class, found.layers, found.neurons) == ("LlamaForCausalLM", 30, 46_080)
    assert found.kinds == (LayerKind(30, 0, 1536, 0),)
    assert found.parameters == 134_515_008
    assert found.weights == {"float32": 538_060_032, "bfloat16": 269_030_016, "float16": 269_030_016}
    assert (found.saved_dtype, found.dtype, found.pass_shape) == ("float32", "float32", (8, 512))
    assert found.features == 2 * 250 * 3 * 46_080 * 4
    one, three = (1.3 * rows * 250 * 46_080 * 4 for rows in (2, 4))
    assert found.probe == {"1-vs-1": pytest.approx(one, abs=1), "3-vs-1": pytest.approx(three, abs=1)}
    assert found.limits == ()


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "opt-projected", "gemma3", "qwen2_moe", "deepseek_v2"])
def test_no_weight_is_needed(tmp_path: Path, name: str):
    found, model = diagnose(configured(tmp_path, name)), make_model(name)
    assert found.model_class == type(model).__name__
    assert found.neurons == neuron_layout(model).total
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.layers == 3


def test_dense_layers_and_mixtures_are_told_apart(tmp_path: Path):
    found = diagnose(configured(tmp_path / "a", "deepseek_v2"))
    assert found.kinds == (LayerKind(1, 0, 40, 0), LayerKind(2, 4, 16, 32))
    assert [kind.width for kind in found.kinds] == [40, 96]
    assert diagnose(configured(tmp_path / "b", "qwen3_moe-mixed")).kinds == (
        LayerKind(2, 4, 16, 0),
        LayerKind(1, 0, 40, 0),
    )


def test_memory_grows_with_what_is_asked_for(tmp_path: Path):
    name = configured(tmp_path, "llama")
    few, many = diagnose(name, responses=10), diagnose(name, responses=1000)
    assert many.features == 100 * few.features
    assert many.probe["3-vs-1"] == pytest.approx(100 * few.probe["3-vs-1"], rel=1e-3)
    assert many.capture == few.capture
    long = diagnose(name, tokens=100_000)
    assert long.pass_shape == (1, 100_000)
    assert long.capture > 10 * few.capture
    half = diagnose(name, dtype="bfloat16")
    assert half.dtype == "bfloat16"
    assert few.capture / 2 < half.capture < few.capture


def test_what_does_not_work_is_said(tiny_checkpoint: MakeCheckpoint, tmp_path: Path):
    (no_tokenizer,) = diagnose(configured(tmp_path / "a", "llama")).limits
    assert no_tokenizer.startswith("Tokenizer and chat template were not checked")
    shutil.copytree(tiny_checkpoint(), tmp_path / "b")
    assert diagnose(str(tmp_path / "b")).limits == ()
    (tmp_path / "b" / "chat_template.jinja").unlink()
    settings = json.loads((tmp_path / "b" / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (tmp_path / "b" / "tokenizer_config.json").write_text(json.dumps(settings))
    assert diagnose(str(tmp_path / "b")).limits == ("Its tokenizer has no chat template, as of a base model.",)
    images, _ = diagnose(configured(tmp_path / "c", "mistral3")).limits
    assert images.startswith("It takes images")


@pytest.mark.parametrize(
    ("method", "dtype", "said"),
    [
        ("mxfp4", "auto", "quantised in 4 bits (MXFP4): give --dtype bfloat16"),
        ("mxfp4", "bfloat16", None),
        ("bitsandbytes", "auto", "quantised (bitsandbytes): they can be captured and scaled, but not folded"),
    ],
)
def test_quantised_checkpoints_are_known_by_their_configuration(
    tmp_path: Path, method: str, dtype: str, said: str | None
):
    name = configured(tmp_path, "gpt_oss")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}))
    found = diagnose(name, dtype=dtype)
    assert found.saved_dtype == f"{method} (quantised)"
    assert found.neurons == 480
    assert found.dtype == "bfloat16"
    assert len(found.limits) == (1 if said is None else 2)
    assert said is None or said in found.limits[0]


def test_the_command_prints_it_readably():
    done = doctor(BUNDLED, "--responses", "1000", "--dtype", "bfloat16")
    assert done.exit_code == 0, done.output
    lines = {line.split("  ")[0]: line for line in done.output.splitlines()}
    assert "smollm2-135m-instruct, LlamaForCausalLM: supported" in lines["model"]
    assert "30 layers of 1,536 neurons, dense" in done.output
    assert "46,080 in 30 layers" in lines["neurons"]
    assert "134,515,008, checkpoint stored as float32" in lines["parameters"]
    assert "513 MiB in float32, 257 MiB in bfloat16" in lines["weights"]
    assert "8 sequences of 512 tokens at once in bfloat16" in lines["capture"]
    assert "disk: 1.03 GiB for 1,000 faithful + 1,000 hallucinated answers" in lines["contributions"]
    assert "about 457 MiB for 1-vs-1 (answer tokens), about 914 MiB for 3-vs-1 (all tokens" in lines["probe"]
    # 1000 answers x 46,080 neurons x 492 fits x 4 ns, twice and four times.
    assert "time: about 3 min for 1-vs-1, about 6 min for 3-vs-1" in done.output
    assert "--plan measures the time" in done.output


@pytest.mark.parametrize(("free", "said"), [(1.1 * 2**30, "DOES NOT FIT"), (1.2 * 2**30, "fits")])
def test_the_total_is_compared_with_what_is_free(free: float, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available", lambda: free)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = doctor(BUNDLED, "--dtype", "bfloat16")
    # Weights of 257 MiB and a probe of 914 MiB beside them.
    assert f"memory, weights included: 1.14 GiB of {free / 2**30:.3g} GiB free here: {said}" in done.output
    assert "disk: 1.03 GiB of " in done.output


def test_the_command_prints_mixtures_and_limits(tmp_path: Path):
    done = doctor(configured(tmp_path, "deepseek_v2"))
    assert done.exit_code == 0, done.output
    assert "1 layer of 40 neurons, dense" in done.output
    assert "2 layers of 4 experts x 16 neurons + 32 in shared experts = 96" in done.output
    assert "- Tokenizer and chat template were not checked" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dtype", "int8"), "dtype should be auto, float32, bfloat16 or float16, found 'int8'"),
        (("--responses", "0"), "should be 1 or more, found 0 and 512"),
        (("--tokens", "-1"), "should be 1 or more, found 1000 and -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: tuple[str, ...], said: str):
    done = doctor(BUNDLED, *arguments)
    assert done.exit_code == 1
    assert done.output == f"Error: {done.output.removeprefix('Error: ')}"
    assert said in done.output
    assert done.output.count("\n") == 1


def test_a_model_that_is_not_supported_is_one_sentence_and_exit_code_one(tmp_path: Path):
    name = configured(tmp_path / "a", "llama4_text", num_local_experts=2, moe_layers=[0, 1, 2])
    with pytest.raises(UnsupportedModelError, match="Llama4TextExperts"):
        diagnose(name)
    for asked in (name, configured(tmp_path / "b", "mamba"), str(tmp_path / "nowhere"), "no-such-org/no-such-model"):
        done = doctor(asked)
        assert done.exit_code == 1
        assert ("no such directory" in done.output) is (asked == "no-such-org/no-such-model")
        assert done.output.startswith("Error: ")
        assert done.output.count("\n") == 1
        assert done.exception is None or isinstance(done.exception, SystemExit)
    with pytest.raises(CheckpointError):
        diagnose(str(tmp_path / "nowhere"))
