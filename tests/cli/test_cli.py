"""The `hneurons` command prints what was found, and one sentence where it cannot."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from small_run import Run, small_run

from hneurons_eval import __version__
from hneurons_eval.cli import main
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.report.content import content
from hneurons_eval.report.terminal import print_report
from hneurons_eval.report.wording import StageFigures, interval

LAYOUT = NeuronLayout((50, 50))


def hneurons(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, list(arguments))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = small_run()
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(made.artifacts))
    return made


def neuron_file(path: Path, flat: list[int], layout: NeuronLayout = LAYOUT, weighted: bool = True) -> str:
    weights = np.arange(1.0, len(flat) + 1) if weighted else None
    NeuronSet.from_flat(np.array(flat), layout, weights, model="a-model").save(path)
    return str(path)


def test_version():
    done = hneurons("--version")
    assert done.exit_code == 0
    assert done.output.strip() == f"hneurons, version {__version__}"


@pytest.mark.parametrize(
    "arguments", [("--help",), ("run", "-h"), ("report", "-h"), ("doctor", "-h"), ("neurons", "compare", "-h")]
)
def test_help(arguments: tuple[str, ...]):
    done = hneurons(*arguments)
    assert done.exit_code == 0
    assert "Usage:" in done.output


def test_show_lists_the_heaviest_neurons_first(tmp_path: Path):
    done = hneurons("neurons", "show", neuron_file(tmp_path / "n.json", [3, 7, 60, 99]), "--most", "2")
    assert done.exit_code == 0, done.output
    assert "4 neurons: 4 with a positive weight (the H-neurons), 0 with a negative; of a-model" in done.output
    assert "4.0000% of 100 neurons" in done.output
    assert "by layer: 0: 2, 1: 2" in done.output
    rows = [line.split() for line in done.output.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert rows[1:] == [["1", "49", "+4"], ["1", "10", "+3"]]


def test_show_takes_neurons_without_weights(tmp_path: Path):
    done = hneurons("neurons", "show", neuron_file(tmp_path / "n.json", [3, 7], weighted=False))
    assert done.exit_code == 0, done.output
    assert "2 neurons" in done.output
    assert "nan" not in done.output


def test_show_takes_an_empty_set(tmp_path: Path):
    done = hneurons("neurons", "show", neuron_file(tmp_path / "n.json", []))
    assert done.exit_code == 0, done.output
    assert "0 neurons" in done.output


def test_show_takes_a_probe_directory(run: Run):
    sample = (run.logs["probe"].samples or [])[0]
    assert sample.scores is not None
    summary = (sample.scores["detected"].metadata or {})["probe"]
    done = hneurons("neurons", "show", summary["directory"])
    assert done.exit_code == 0, done.output
    assert f"{summary['neurons']} neurons: {summary['positive_neurons']} with a positive weight" in done.output
    assert "of smollm2-135m-instruct" in done.output
    assert "selected on half-samples" in done.output


def test_compare_counts_what_is_shared(tmp_path: Path):
    first = neuron_file(tmp_path / "a.json", [1, 2, 3, 60])
    second = neuron_file(tmp_path / "b.json", [2, 3, 61])
    done = hneurons("neurons", "compare", first, second)
    assert done.exit_code == 0, done.output
    rows = {line.strip().split("  ")[0]: line.split() for line in done.output.splitlines()}
    assert rows["neurons of the first, of the second"][-6:-4] == ["4,", "3"]
    assert rows["shared, with the same sign (Jaccard)"][-6:-4] == ["2", "(0.400)"]
    assert "0.12; by layer" in done.output


def test_compare_refuses_neurons_of_other_layers(tmp_path: Path):
    first = neuron_file(tmp_path / "a.json", [1])
    second = neuron_file(tmp_path / "b.json", [1], NeuronLayout((50, 51)))
    done = hneurons("neurons", "compare", first, second)
    assert done.exit_code == 1
    assert "other layers" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("content", ["not JSON", "{}", '{"format": "hneurons-neurons", "version": 9}'])
def test_a_file_that_holds_no_neurons_is_refused(tmp_path: Path, content: str):
    (tmp_path / "n.json").write_text(content)
    done = hneurons("neurons", "show", str(tmp_path / "n.json"))
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert done.output.count("\n") == 1


def test_a_directory_that_holds_no_probe_is_refused(tmp_path: Path):
    done = hneurons("neurons", "show", str(tmp_path))
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")


@pytest.mark.parametrize("arguments", [("neurons", "show"), ("report", "nowhere"), ("report",), ("run",), ("what",)])
def test_arguments_that_make_no_sense_are_refused(arguments: tuple[str, ...]):
    done = hneurons(*arguments)
    assert done.exit_code == 2
    assert "Usage:" in done.output


def test_report_prints_what_every_stage_found(run: Run):
    done = hneurons("report", str(run.directory / "logs"))
    assert done.exit_code == 0, done.output
    assert "Hallucination neurons of hneurons/smollm2-135m-instruct" in done.output
    figures = {
        stage: {name: m.value for one in log.results.scores for name, m in one.metrics.items()}
        for stage, log in run.logs.items()
        if log.results
    }
    collected, probed, swept = figures["collect"], figures["probe"], figures["closed_book"]
    assert f"{int(collected['right'])} right, {int(collected['wrong'])} wrong" in done.output
    assert f"neurons ({int(probed['neurons'])}): {int(probed['neurons'])} of 46,080" in done.output
    assert f"{probed['auroc']:.3f} [{probed['auroc_low']:.3f}, {probed['auroc_high']:.3f}]" in done.output
    for alpha in "013":
        level, low, high = (100 * swept[f"accuracy{end}@{alpha}"] for end in ("", "_low", "_high"))
        assert f"{level:.1f} [{low:.1f}, {high:.1f}]" in done.output
    assert f"{100 * swept['accuracy_difference@0']:.1f} [" in done.output
    for log in run.logs.values():
        assert Path(log.location).name in done.output


def test_report_takes_single_logs_and_the_newest_of_each_stage(run: Run, tmp_path: Path):
    from small_run import stage

    few = stage("capture", tmp_path, responses=run.logs["collect"].location, per_class=2)
    done = hneurons("report", str(run.directory / "logs"), few.location)
    assert done.exit_code == 0, done.output
    assert "2 faithful and 2 hallucinated" in done.output
    alone = hneurons("report", run.logs["collect"].location)
    assert alone.exit_code == 0, alone.output
    assert "questions (" in alone.output
    assert "AUROC" not in alone.output


def test_report_refuses_what_is_no_log(tmp_path: Path):
    empty = hneurons("report", str(tmp_path))
    assert empty.exit_code == 1
    assert "nothing to report in" in empty.output
    (tmp_path / "x.eval").write_text("nothing")
    done = hneurons("report", str(tmp_path))
    assert done.exit_code == 1
    assert "is not an Inspect log" in done.output
    assert "Traceback" not in done.output


def test_run_refuses_a_model_that_is_not_there(tmp_path: Path):
    done = hneurons("run", str(tmp_path / "nowhere"), "--log-dir", str(tmp_path / "logs"))
    assert done.exit_code != 0
    assert "nowhere" in done.output or "nowhere" in str(done.exception)


def test_an_interval_is_written_with_its_ends_where_they_are_known():
    figures = {"a": 0.5, "a_low": 0.25, "a_high": 0.75, "b": 0.5, "c": 0.5, "c_low": float("nan"), "c_high": 1.0}
    assert interval(figures, "a") == "0.500 [0.250, 0.750]"
    assert interval(figures, "a", 100, 1) == "50.0 [25.0, 75.0]"
    assert interval(figures, "b") == interval(figures, "c") == "0.500"
    assert interval(figures, "d") == "—"


def test_a_summary_of_stages_that_found_nothing_has_no_figures():
    console = Console(record=True, width=120)
    stages = [
        StageFigures(name, {}, f"{name}.eval") for name in ("collect", "capture", "probe", "detect", "closed_book")
    ]
    print_report(content(stages), console)
    assert console.export_text().count("its status is success") == 5


def test_a_log_is_read_by_a_process_that_has_loaded_nothing_of_inspect():
    """Inspect's logs are compressed in a way that zipfile knows only once Inspect's reader has been imported."""
    code = "import sys; from hneurons_eval.cli import main; main(['neurons', 'show', sys.argv[1]])"
    log = small_run().logs["probe"].location
    done = subprocess.run([sys.executable, "-c", code, log], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "positive" in done.stdout
