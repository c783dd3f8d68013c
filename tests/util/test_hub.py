"""Neuron sets and probes go to the Hub and come back the same, with a card; directories look like repositories."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub.repocard import metadata_load
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_run import Run, small_run

from hneurons_eval import NeuronSet, Probe
from hneurons_eval.artifacts.references import neurons_to_scale, resolve
from hneurons_eval.cli import main
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSetError
from hneurons_eval.probe.files import ProbeError
from hneurons_eval.util.cards import About
from hneurons_eval.util.errors import UsageError
from hneurons_eval.util.files import PROBE_FILES
from hneurons_eval.util.hub import HubError

LAYOUT = NeuronLayout((6, 4))


class FakeHub:
    """The Hub, as far as its client is used: repositories in memory, by name and revision."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []
        self.broken: Exception | None = None

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        if self.broken:
            raise self.broken
        assert exist_ok
        if repo_id not in self.repositories:
            self.repositories[repo_id], self.private[repo_id] = {}, private

    def upload_folder(
        self, *, repo_id: str, folder_path: str, revision: str | None, commit_message: str
    ) -> SimpleNamespace:
        content = {file.name: file.read_bytes() for file in Path(folder_path).iterdir()}
        self.repositories[repo_id].setdefault(revision or "main", {}).update(content)
        self.messages.append(commit_message)
        return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: list[str], **_: Any) -> str:
        if self.broken:
            raise self.broken
        if repo_id not in self.repositories:
            raise FileNotFoundError(f"404: {repo_id}\nand many more lines")
        directory = self.cache / repo_id / (revision or "main")
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.repositories[repo_id][revision or "main"].items():
            if name in allow_patterns:
                (directory / name).write_bytes(content)
        return str(directory)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub(tmp_path / "cache")
    client = type("HfApi", (), {"__new__": lambda *_, **__: made})
    monkeypatch.setattr(huggingface_hub, "HfApi", client)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def a_probe(penalty: Any = "l1", model: str | None = "org/model") -> Probe:
    rng = np.random.default_rng(0)
    X, y = rng.random((40, LAYOUT.total)).astype(np.float32), np.arange(40) % 2
    X[:, 2] += y
    X[:, 7] += y
    probe = Probe(penalty, C=10.0, threshold=0.4)
    return probe.fit(X, y, widths=LAYOUT.widths, model=model, metadata={"mode": "1-vs-1", "training_questions": ["q"]})


def some_neurons(**options: Any) -> NeuronSet:
    return NeuronSet.from_flat([1, 4, 8], LAYOUT, np.array([0.5, 1.5, 2.5]), **options)


def same(a: NeuronSet, b: NeuronSet) -> None:
    for name in ("layers", "indices", "weights", "stability"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.model, a.widths, dict(a.provenance)) == (b.model, b.widths, dict(b.provenance))


# --- there and back -----------------------------------------------------------------------------------


def test_neurons_come_back_as_they_were(hub: FakeHub):
    neurons = some_neurons(model="org/model", provenance={"C": 2.0})
    url = neurons.push("me/neurons")
    assert url == "https://huggingface.co/me/neurons/commit/1"
    same(NeuronSet.from_pretrained("me/neurons"), neurons)
    assert sorted(hub.repositories["me/neurons"]["main"]) == ["README.md", "neurons.json"]
    assert hub.messages == ["Upload NeuronSet"]


def test_a_probe_comes_back_as_it_was_and_its_neurons_too(hub: FakeHub):
    probe = a_probe()
    probe.push("me/probe", message="First")
    back = Probe.from_pretrained("me/probe")
    X = np.random.default_rng(1).random((5, LAYOUT.total))
    np.testing.assert_array_equal(back.predict_proba(X), probe.predict_proba(X))
    assert (back.threshold_, back.metadata, back.model) == (probe.threshold_, probe.metadata, probe.model)
    same(NeuronSet.from_pretrained("me/probe"), probe.neurons())
    files = ["README.md", "neurons.json", "probe.json", "weights.safetensors"]
    assert sorted(hub.repositories["me/probe"]["main"]) == files
    assert hub.messages == ["First"]


def test_a_dense_probe_has_no_neurons_to_write(hub: FakeHub):
    a_probe("l2").push("me/dense")
    assert "neurons.json" not in hub.repositories["me/dense"]["main"]
    assert Probe.from_pretrained("me/dense").penalty_ == "l2"


def test_the_stability_of_a_probes_neurons_is_kept_and_other_neurons_are_refused(hub: FakeHub, tmp_path: Path):
    probe = a_probe()
    found = probe.neurons("both")
    stable = replace(found, stability=np.linspace(0, 1, len(found)))
    probe.save(tmp_path / "p", stable)
    same(NeuronSet.load(tmp_path / "p"), stable)
    probe.push("me/probe", source=tmp_path / "p")
    same(NeuronSet.from_pretrained("me/probe"), stable)
    with pytest.raises(ProbeError, match="not those of the probe"):
        probe.save(tmp_path / "p", some_neurons())
    a_probe("l2").save(tmp_path / "p")
    assert not (tmp_path / "p" / "neurons.json").exists()


def test_a_revision_is_a_branch_of_its_own(hub: FakeHub):
    first, second = some_neurons(), NeuronSet.from_flat([0], LAYOUT)
    first.push("me/neurons", private=True)
    second.push("me/neurons", revision="v2", private=False)
    assert hub.private == {"me/neurons": True}
    assert NeuronSet.from_pretrained("me/neurons") == first
    assert NeuronSet.from_pretrained("me/neurons", revision="v2") == second


@given(
    flat=st.sets(st.integers(0, LAYOUT.total - 1)),
    model=st.none() | st.text(max_size=30),
    note=st.text(max_size=30),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_names_a_directory_can_be_read_back_and_its_card_has_a_head(
    tmp_path: Path, flat: set[int], model: str | None, note: str
):
    directory = tmp_path / "repository"
    shutil.rmtree(directory, ignore_errors=True)
    neurons = NeuronSet.from_flat(sorted(flat), LAYOUT, model=model, provenance={"note": note, note: [1]})
    neurons.save_pretrained(directory, About(data=note, metrics={"auroc": 0.5}))
    same(NeuronSet.from_pretrained(directory), neurons)
    head = metadata_load(directory / "README.md")
    assert head
    assert head["library_name"] == "hneurons-eval"


# --- a directory in the same layout -------------------------------------------------------------------


def test_a_directory_looks_like_a_repository(tmp_path: Path):
    some_neurons().save_pretrained(tmp_path / "neurons")
    a_probe().save_pretrained(tmp_path / "probe")
    assert NeuronSet.from_pretrained(tmp_path / "neurons") == some_neurons()
    assert Probe.from_pretrained(str(tmp_path / "probe")).neurons() == a_probe().neurons()
    a_probe().save(tmp_path / "bare")  # as the probe task leaves it
    assert NeuronSet.from_pretrained(tmp_path / "bare") == a_probe().neurons()


def test_a_directory_has_no_revisions(tmp_path: Path):
    some_neurons().save_pretrained(tmp_path)
    with pytest.raises(HubError, match="has no revision 'v1'"):
        NeuronSet.from_pretrained(tmp_path, revision="v1")


def test_what_holds_neither_is_refused(tmp_path: Path):
    with pytest.raises(NeuronSetError, match=r"no neuron file at .*neurons\.json"):
        NeuronSet.from_pretrained(tmp_path)
    some_neurons().save_pretrained(tmp_path)
    with pytest.raises(ProbeError, match=r"probe\.json cannot be read"):
        Probe.from_pretrained(tmp_path)


def test_damaged_files_are_refused_by_their_own_readers(tmp_path: Path):
    a_probe().save_pretrained(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(ProbeError, match="damaged"):
        Probe.from_pretrained(tmp_path)
    (tmp_path / "neurons.json").write_text(json.dumps({"format": "hneurons-neurons", "version": 2}))
    with pytest.raises(NeuronSetError, match="has version 2"):
        NeuronSet.from_pretrained(tmp_path)


def test_a_hub_id_is_a_reference_with_or_without_a_revision(hub: FakeHub, tmp_path: Path):
    some_neurons().push("me/neurons")
    a_probe().push("me/neurons", revision="v2")
    assert neurons_to_scale("me/neurons") == some_neurons()
    assert resolve("me/neurons").probe is None
    assert resolve("me/neurons@v2").fitted.C_ == 10.0
    with pytest.raises(UsageError, match="no file or directory here, and not on the Hub: cannot get me/none"):
        resolve("me/none")
    asked = AssertionError("the Hub was asked")
    hub.broken = asked
    for name in ("a/n.json", "logs/x.eval", "none"):
        with pytest.raises(UsageError, match="does not exist; give a neuron file"):
            resolve(name)
    with pytest.raises(UsageError, match="does not exist"):
        resolve("me/neurons", near=[tmp_path / "a.eval"])  # what somebody else's log says


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["neurons", "a/b/c", "", "../up", "a b/c", "/no/such/directory", "me/"])
def test_a_name_that_is_no_repository_is_refused_before_anything_is_asked(hub: FakeHub, name: str):
    hub.broken = AssertionError("the Hub was asked")
    with pytest.raises(HubError, match="owner/name"):
        some_neurons().push(name)
    with pytest.raises(HubError, match="neither a local directory nor a repository"):
        NeuronSet.from_pretrained(name)


def test_what_the_hub_says_is_passed_on_in_one_line(hub: FakeHub):
    with pytest.raises(HubError, match=r"^cannot get me/none at v1 from the Hub: 404: me/none$"):
        Probe.from_pretrained("me/none", revision="v1")
    hub.broken = PermissionError("401: who are you?")
    with pytest.raises(HubError, match=r"cannot write to me/x on the Hub: 401.*hf auth login"):
        some_neurons().push("me/x")
    assert hub.repositories == {}


def test_a_probe_that_is_not_fitted_is_refused(hub: FakeHub):
    with pytest.raises(ProbeError, match="not fitted"):
        Probe().push("me/probe")


# --- the card -----------------------------------------------------------------------------------------


def test_the_card_says_model_data_and_figures(tmp_path: Path):
    about = About(
        revision="abc", fingerprint="f00d", data="TriviaQA | train", metrics={"auroc": 0.84321, "answers": 1000}
    )
    a_probe().save_pretrained(tmp_path, about, "me/probe")
    head = metadata_load(tmp_path / "README.md")
    assert head
    assert head["base_model"] == "org/model"
    assert "hneurons" in head["tags"]
    text = (tmp_path / "README.md").read_text()
    neurons = a_probe().neurons()
    for row in (
        "| model | org/model |",
        "| model revision | abc |",
        "| model fingerprint | f00d |",
        f"| neurons with a weight | {neurons.count_by_sign} ({100 * len(neurons):.3f} per mille) |",
        f"| digest of the neurons (SHA-256) | {neurons.digest} |",
        "| threshold | 0.4000 |",
        r"| data | TriviaQA \| train |",
        "| auroc | 0.8432 |",
        "| answers | 1000 |",
        "| training questions | 1 entries |",
        'Probe.from_pretrained("me/probe")',
    ):
        assert row in text


def test_a_card_knows_what_is_no_model_of_the_hub(tmp_path: Path):
    some_neurons(model="smollm2-135m-instruct").save_pretrained(tmp_path)
    head = metadata_load(tmp_path / "README.md")
    assert head is not None
    assert "base_model" not in head
    NeuronSet.from_flat([], LAYOUT).save_pretrained(tmp_path)
    assert "a model" in (tmp_path / "README.md").read_text()


# --- the commands -------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = small_run()
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(made.artifacts))
    return made


def hneurons(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, list(arguments))


def test_a_run_is_pushed_with_its_figures_and_pulled_as_a_probe(hub: FakeHub, run: Run, tmp_path: Path):
    log = run.logs["probe"]
    directory = resolve(log.location).directory
    assert directory is not None
    done = hneurons("neurons", "push", log.location, "me/run")
    assert done.exit_code == 0, done.output
    assert done.output.strip() == "https://huggingface.co/me/run/commit/1"
    text = hub.repositories["me/run"]["main"]["README.md"].decode()
    assert log.results
    metrics = {name: one.value for score in log.results.scores for name, one in score.metrics.items()}
    assert f"| answers | {metrics['answers']:.4g} |" in text
    assert "| model fingerprint | " in text
    assert "| data | " in text
    assert "selected again" in text
    assert sorted(hub.repositories["me/run"]["main"]) == sorted([*PROBE_FILES, "README.md"])
    pulled = hneurons("neurons", "pull", "me/run", str(tmp_path / "out"))
    assert pulled.exit_code == 0, pulled.output
    for name in PROBE_FILES:
        if name != "neurons.json":  # as JSON the same, not to the byte
            assert (tmp_path / "out" / name).read_bytes() == (directory / name).read_bytes()
    same(NeuronSet.load(tmp_path / "out"), NeuronSet.load(directory))
    shown = hneurons("neurons", "show", str(tmp_path / "out"))
    assert shown.exit_code == 0, shown.output
    again = hneurons("neurons", "pull", "me/run", str(tmp_path / "out"))
    assert again.exit_code == 1
    assert "exists; give another name" in again.output


def test_an_interrupted_pull_leaves_nothing(hub: FakeHub, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hneurons("neurons", "push", run.logs["probe"].location, "me/run")
    copy = shutil.copyfile
    copied: list[str] = []

    def fails_at_the_second(source: Any, target: Any) -> Any:
        copied.append(str(target))
        if len(copied) == 2:
            raise OSError("No space left on device")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", fails_at_the_second)
    (tmp_path / "place").mkdir()
    pulled = hneurons("neurons", "pull", "me/run", str(tmp_path / "place" / "out"))
    assert (pulled.exit_code, len(copied)) == (1, 2), pulled.output
    assert "No space left on device" in pulled.output
    assert not list((tmp_path / "place").iterdir())


def test_a_neuron_file_is_pushed_and_pulled_as_a_file(hub: FakeHub, tmp_path: Path):
    some_neurons().save(tmp_path / "n.json")
    done = hneurons("neurons", "push", str(tmp_path / "n.json"), "me/n", "--data", "my own", "--private")
    assert done.exit_code == 0, done.output
    assert hub.private == {"me/n": True}
    assert "| data | my own |" in hub.repositories["me/n"]["main"]["README.md"].decode()
    pulled = hneurons("neurons", "pull", "me/n", str(tmp_path / "back.json"))
    assert pulled.exit_code == 0, pulled.output
    assert NeuronSet.load(tmp_path / "back.json") == some_neurons()


def test_what_cannot_be_pushed_or_pulled_is_said_in_one_line(hub: FakeHub, tmp_path: Path):
    for arguments in (
        ("push", str(tmp_path / "none.json"), "me/n"),
        ("push", str(tmp_path), "me/n"),
        ("pull", "me/none", str(tmp_path / "out")),
        ("pull", "none", str(tmp_path / "out")),
    ):
        done = hneurons("neurons", *arguments)
        assert done.exit_code == 1
        assert done.output.startswith("Error: ")
        assert done.output.count("\n") == 1
