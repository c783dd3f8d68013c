"""Files of strangers: nothing in them is executed, nothing is read or written outside, remote code stays off."""

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from hneurons_eval.artifacts import paths as artifacts
from hneurons_eval.artifacts.contribution_shards import StoreError, StoreSpec
from hneurons_eval.artifacts.contribution_store import ContributionStore
from hneurons_eval.artifacts.paths import ArtifactError
from hneurons_eval.artifacts.references import resolve
from hneurons_eval.cli import main
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.probe.files import ProbeError
from hneurons_eval.util.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for folder in ("hneurons_eval", "tasks", "scorers", "solvers") for path in (ROOT / folder).rglob("*.py")
)
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
"""Modules that execute what they read."""
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "joblib.load", "yaml.load"}


def dotted(node: ast.expr) -> str:
    """`torch.load` of such an expression."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(source: str) -> list[str]:
    """What in a module could execute what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [name for name in names if name.split(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if name in CALLS:
                found.append(name)
            allowed = keywords.get("allow_pickle")
            if allowed is not None and not (isinstance(allowed, ast.Constant) and allowed.value is False):
                found.append(f"{name}(allow_pickle)")
            if name.endswith("np.load") and allowed is None:
                found.append(name)  # numpy's default is False, which may change; say it
            trusted = keywords.get("trust_remote_code")
            if isinstance(trusted, ast.Constant) and trusted.value is True:
                found.append(f"{name}(trust_remote_code=True)")
            shell = keywords.get("shell")
            if isinstance(shell, ast.Constant) and shell.value is True:
                found.append(f"{name}(shell=True)")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_executes_what_it_reads(path: Path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('x')",
        "eval('1')",
        "exec(text)",
        "np.load('x', allow_pickle=True)",
        "np.load('x')",
        "import os\nos.system('ls')",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "subprocess.run('ls', shell=True)",
    ],
)
def test_the_search_sees_what_it_looks_for(source: str):
    assert dangers(source)


# --- remote code -------------------------------------------------------------------------------------------


def entry_points() -> dict[str, Any]:
    """Everything that can be told to trust code of a checkpoint."""
    from hneurons_eval.cli import doctor
    from hneurons_eval.engine import engine, provider
    from hneurons_eval.models import checkpoints, coverage
    from hneurons_eval.models.weights import export

    modules = (checkpoints, coverage, doctor, engine, export, provider)
    found: dict[str, Any] = {}
    for module in modules:
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != module.__name__ or not callable(thing):
                continue
            try:
                parameters = inspect.signature(thing).parameters
            except (TypeError, ValueError):
                continue
            if "trust_remote_code" in parameters:
                found[f"{module.__name__}.{name}"] = parameters["trust_remote_code"].default
    return found


def test_remote_code_is_off_wherever_it_can_be_asked_for():
    found = entry_points()
    assert {"hneurons_eval.models.checkpoints.load_model", "hneurons_eval.engine.engine.get_engine"} <= found.keys()
    for name, default in found.items():
        assert default is False or (default is inspect.Parameter.empty and "._" in name), name


def options(command: click.Command) -> list[click.Parameter]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        found = [command.get_command(context, name) for name in command.list_commands(context)]
        return [option for one in found if one is not None for option in options(one)]
    return list(command.params)


def test_remote_code_is_a_switch_that_is_off_in_every_command():
    found = [option for option in options(main) if option.name == "trust_remote_code"]
    assert found
    for option in found:
        assert isinstance(option, click.Option)
        assert option.is_flag
        assert not option.get_default(click.Context(main))


def test_a_checkpoint_that_brings_code_does_not_run_it(tmp_path: Path):
    from hneurons_eval.models.checkpoints import CheckpointError, load_config

    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}})
    )
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(CheckpointError):
        load_config(str(tmp_path))
    assert not (tmp_path / "ran").exists()


# --- paths -------------------------------------------------------------------------------------------------

ESCAPES = ["../x", "/etc/passwd", "a/../../b", "x" * 64, "A" * 64, "a" * 63, "a" * 64 + "\n", "..", "", "a" * 62 + "/."]


@pytest.mark.parametrize("key", ESCAPES)
def test_no_key_leads_out_of_the_artifacts(tmp_path: Path, key: str):
    with pytest.raises(ArtifactError, match="not an artifact key"):
        artifacts.probe_directory(key)
    store = ContributionStore(tmp_path / "store", StoreSpec("m", (4,), ("answer",)))
    with pytest.raises(StoreError, match="is not a key"):
        store.get(key)
    with pytest.raises(UsageError):
        resolve(f"{tmp_path}/{key.strip() or 'none'}")


def test_what_a_neuron_file_says_of_itself_names_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stranger's names and provenance are kept as text; where a set is kept follows from its neurons alone."""
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(tmp_path / "root"))
    before = set(tmp_path.rglob("*"))
    mean = NeuronSet(np.array([0]), np.array([1]), model="../../evil", provenance={"neurons_file": "/etc/passwd"})
    digest = artifacts.save_neurons(mean)
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert new == {tmp_path / "root" / "neurons" / digest[:2] / f"{digest}.json"}


def test_a_probe_that_names_other_files_reads_none_of_them(tmp_path: Path):
    rng = np.random.default_rng(0)
    X, y = rng.random((20, 6)), np.arange(20) % 2
    Probe(C=10.0).fit(X, y, widths=(6,), metadata={"weights": "../secret.safetensors"}).save(tmp_path / "p")
    (tmp_path / "p" / "weights.safetensors").unlink()
    with pytest.raises(ProbeError, match=r"weights\.safetensors cannot be read"):
        Probe.load(tmp_path / "p")


def test_an_index_of_weights_cannot_name_files_elsewhere(tmp_path: Path):
    from hneurons_eval.models.weights.patcher import ExportError, _files

    (tmp_path / "secret.safetensors").write_bytes(b"x")
    for name in ("../secret.safetensors", str(tmp_path / "secret.safetensors"), 7, "none.safetensors"):
        place = tmp_path / "model"
        place.mkdir(exist_ok=True)
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
        with pytest.raises(ExportError, match="not beside it"):
            _files(place)


def test_neurons_beyond_the_model_are_refused_before_memory_is_spent(tmp_path: Path):
    import tracemalloc

    path = tmp_path / "n.json"
    record = {
        "format": "hneurons-neurons", "version": 1, "layers": [2**50], "indices": [2**52], "widths": None,
    }  # fmt: skip
    path.write_text(json.dumps(record))
    tracemalloc.start()
    try:
        found = NeuronSet.load(path)
        with pytest.raises(NeuronSetError, match="do not fit"):
            found.flat(NeuronLayout((4, 4)))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


# --- where nothing can be kept -----------------------------------------------------------------------------


def test_artifacts_that_cannot_be_written_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/hneurons")):
        monkeypatch.setenv("HNEURONS_ARTIFACTS", str(place))
        with pytest.raises(ArtifactError, match=f"{place} .*set HNEURONS_ARTIFACTS"):
            artifacts.check_writable()
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(tmp_path / "new" / "root"))
    artifacts.check_writable()
    assert list((tmp_path / "new" / "root").iterdir()) == []


def test_two_processes_that_save_one_probe_at_once_both_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The other one is faster while this one has already seen that there is no such directory."""
    import os

    from hneurons_eval.probe import files as module

    rng = np.random.default_rng(0)
    fitted = Probe(C=10.0).fit(rng.random((20, 6)), np.arange(20) % 2, widths=(6,))
    replace, raced = os.replace, []

    def slow(source: Any, target: Any) -> None:
        if Path(target).name == "p" and not raced:
            raced.append(target)
            fitted.save(target)
        replace(source, target)

    monkeypatch.setattr(module.os, "replace", slow)
    fitted.save(tmp_path / "p")
    assert raced
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p"]
    np.testing.assert_array_equal(Probe.load(tmp_path / "p").coef_, fitted.coef_)
