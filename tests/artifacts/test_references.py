"""A reference names the same neurons, probe and log wherever it is given; a file that is rewritten is read again."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from inspect_ai.log import read_eval_log
from small_run import Run, small_run

from hneurons_eval import NeuronSet, Probe
from hneurons_eval.artifacts import frames
from hneurons_eval.artifacts.logs import probe_summary, read_stage
from hneurons_eval.artifacts.paths import save_neurons
from hneurons_eval.artifacts.references import neurons_to_scale, resolve, resolve_probe
from hneurons_eval.cli import main
from hneurons_eval.engine.risk import risk_probe
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.util.errors import UsageError
from hneurons_eval.util.files import NEURONS

LAYOUT = NeuronLayout((3, 3))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = small_run()
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(made.artifacts))
    return made


def references(run: Run) -> dict[str, str]:
    """The small run's probe by all its names."""
    directory = Path(probe_summary(run.logs["probe"])["directory"])
    return {
        "log": run.logs["probe"].location,
        "directory of logs": str(run.directory / "logs"),
        "probe directory": str(directory),
        "neuron file": str(directory / NEURONS),
    }


def fitted(directory: Path, weights: list[float]) -> Probe:
    probe = Probe("l1", C=0.5)
    probe.coef_, probe.intercept_, probe.widths, probe.model = np.array(weights), 0.0, LAYOUT.widths, "m"
    probe.save(directory)
    return probe


def hneurons(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, list(arguments))


def test_all_names_of_a_probe_lead_to_its_neurons(run: Run):
    named = references(run)
    directory = Path(named["probe directory"])
    for kind, reference in named.items():
        found = resolve(reference)
        assert found.neurons == NeuronSet.load(directory / NEURONS), kind
        assert found.neurons is not None
        assert found.neurons.stability is not None, kind
        assert found.directory == directory, kind
        assert (found.log is not None) == ("log" in kind), kind
        assert (found.probe is None) == (kind == "neuron file"), kind
    digest = save_neurons(resolve(named["log"]).signed("negative"))
    assert resolve(digest).signed("positive") == neurons_to_scale(digest) == resolve(named["log"]).signed("negative")


def test_commands_and_frames_take_every_name(run: Run):
    named = references(run)
    shown = {kind: hneurons("neurons", "show", reference) for kind, reference in named.items()}
    assert {kind: done.exit_code for kind, done in shown.items()} == dict.fromkeys(named, 0)
    assert len({done.output for done in shown.values()}) == 1
    frame: Any = frames.neurons(list(named.values()))
    sizes = frame.groupby("file").size()
    assert dict(sizes) == dict.fromkeys(named.values(), len(resolve(named["log"]).signed("both")))
    same = hneurons("compare", named["log"], named["neuron file"])
    assert same.exit_code == 0, same.output
    for kind in ("log", "directory of logs", "probe directory"):
        assert risk_probe(named[kind]).directory == named["probe directory"]
    with pytest.raises(UsageError, match="holds neurons and no probe"):
        risk_probe(named["neuron file"])


def test_relative_paths_in_a_log_are_found_above_it_and_else_the_error_names_the_variable(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run in one directory, its log named from another, without HNEURONS_ARTIFACTS."""
    log = read_eval_log(run.logs["probe"].location)
    directory = Path(probe_summary(log)["directory"])
    relative = Path("hneurons_artifacts", *directory.parts[-3:])
    for sample in log.samples or []:
        for score in (sample.scores or {}).values():
            if score.metadata and "probe" in score.metadata:
                score.metadata["probe"] |= {"directory": str(relative), "neurons_file": str(relative / NEURONS)}
        (sample.output.metadata or {}).pop("hneurons", None)
    from inspect_ai.log import write_eval_log

    there = tmp_path / "there"
    place = there / "logs" / Path(run.logs["probe"].location).name
    place.parent.mkdir(parents=True)
    write_eval_log(log, str(place))
    monkeypatch.delenv("HNEURONS_ARTIFACTS")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"hneurons_artifacts/probes/.* is not there; set HNEURONS_ARTIFACTS"):
        resolve(str(place))
    shutil.copytree(directory, there / relative)
    found = resolve("there/logs")
    assert found.directory == there / relative
    assert found.summary["neurons_file"] == str(there / relative / NEURONS)
    report = hneurons("report", "there/logs")
    assert report.exit_code == 0, report.output
    assert str(there / relative) in report.output


def test_a_rewritten_probe_or_neuron_file_is_read_again(tmp_path: Path):
    file, directory = tmp_path / "n.json", tmp_path / "p"
    NeuronSet.from_flat([1], LAYOUT).save(file)
    fitted(directory, [0, 1, 0, 0, 0, 0])
    assert neurons_to_scale(file) == neurons_to_scale(directory) == NeuronSet.from_flat([1], LAYOUT)
    before = risk_probe(str(directory))
    assert risk_probe(str(directory)) is before
    assert neurons_to_scale(file) is neurons_to_scale(file)
    NeuronSet.from_flat([4], LAYOUT).save(file)
    fitted(directory, [0, 0, 0, 0, 1, 0])
    assert neurons_to_scale(file) == neurons_to_scale(directory) == NeuronSet.from_flat([4], LAYOUT)
    assert risk_probe(str(directory)).digest != before.digest


def test_what_names_nothing_is_refused_by_its_own_name(run: Run, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("{")
    l2 = Probe("l2")
    l2.coef_, l2.intercept_, l2.widths = np.ones(6), 0.0, LAYOUT.widths
    l2.save(tmp_path / "l2")
    fitted(tmp_path / "zero", [0] * 6)
    for reference, words in (
        ("", "neurons is missing; give a neuron file"),
        (str(tmp_path / "none.json"), "does not exist; give a neuron file"),
        (str(tmp_path / "empty"), "is a directory without probe.json, neurons.json or logs"),
        (str(tmp_path / "bad.json"), "is not a neuron file"),
        (run.logs["collect"].location, "is a log of collect; give the log of the probe task"),
        ("0" * 64, "no neuron set 000000000000"),
        (str(tmp_path / "l2"), "is of an L2 probe, which selects no neurons"),
        (str(tmp_path / "zero"), "holds no neurons; train with a larger C"),
    ):
        with pytest.raises(UsageError, match=words):
            resolve(reference, "neurons").chosen()
    with pytest.raises(UsageError, match="holds neurons and no probe"):
        resolve_probe(save_neurons(NeuronSet.from_flat([1], LAYOUT)))


def test_an_unfinished_log_in_a_directory_is_named(run: Run, tmp_path: Path):
    from inspect_ai.log import write_eval_log

    log = read_eval_log(run.logs["probe"].location).model_copy(update={"status": "error"})
    file = tmp_path / Path(run.logs["probe"].location).name
    write_eval_log(log, str(file))
    with pytest.raises(UsageError) as caught:
        resolve(str(tmp_path))
    assert str(caught.value) == (
        f"{file}, the newest log of probe in {tmp_path}, ended with status error; "
        f"finish it first: inspect eval-retry {file}"
    )
    with pytest.raises(UsageError, match=f"^features={tmp_path} holds no log of the capture task"):
        read_stage(str(tmp_path), "capture", "features")


def test_the_file_beside_a_probe_leads_to_its_directory_and_a_moved_one_does_not(tmp_path: Path):
    fitted(tmp_path / "p", [0, 1, 0, -1, 0, 0])
    assert resolve(tmp_path / "p" / NEURONS).directory == tmp_path / "p"
    shutil.copy(tmp_path / "p" / NEURONS, tmp_path / NEURONS)
    assert resolve(tmp_path / NEURONS).directory is None
    assert resolve(os.path.relpath(tmp_path / NEURONS)).signed("negative") == NeuronSet.from_flat([3], LAYOUT)
