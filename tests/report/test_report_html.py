"""The page of `hneurons report`: whole, without network, with nothing of the logs taken for markup; and its JSON."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from inspect_ai.scorer import Score
from report_logs import MODEL, scored, sweep_figures, write_log

from hneurons_eval.analysis.detection import Detected, detection
from hneurons_eval.analysis.overlap import LayerBand
from hneurons_eval.cli import main
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.report.content import LABELS, content, examples
from hneurons_eval.report.detection import detection_cells, verdicts
from hneurons_eval.report.figures import is_informative
from hneurons_eval.report.found_neurons import found_neurons, strongest
from hneurons_eval.report.html_page import page
from hneurons_eval.report.overview import overview
from hneurons_eval.report.wording import StageFigures

HOSTILE = "<script>alert(1)</script> **bold** [x](javascript:alert(2)) <img src=x onerror=alert(3)> {{ 7*7 }} \u202egnp"
WIDTHS = (40, 40)
CHOSEN = [3, 50, 51]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would see: tags that match, resources, and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes what is not open"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


def make_probe(directory: Path) -> Path:
    probe = Probe("l1", C=0.5)
    probe.coef_, probe.intercept_ = np.zeros(sum(WIDTHS)), 0.0
    probe.coef_[CHOSEN] = 1.0, 3.0, 2.0
    probe.widths, probe.model = WIDTHS, "a-model"
    curve = [{"C": C, "neurons": n, "held_out_auroc": 0.6, "held_out_accuracy": 0.5} for C, n in ((0.1, 1), (0.5, 3))]
    probe.metadata = {"curve": curve}
    probe.save(directory / "p", replace(probe.neurons(), stability=np.array([0.2, 0.9, 0.6])))
    return directory / "p" / "neurons.json"


def made_answers(response: str = "It is Paris.") -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    found = []
    for k in range(40):
        label = "hallucinated" if k % 2 else "faithful"
        p = float(np.clip(0.3 + 0.4 * LABELS[label] + rng.normal(0, 0.2), 0.01, 0.95))
        p = 0.99 if k == 7 else p  # the surest, so that it is among the examples
        vector = np.array([k / 100, LABELS[label], rng.random()], "<f2")
        found.append(
            {
                "question": f"What is the capital number {k}?",
                "answer": response if k == 7 else f"It is Town {k}.",
                "span": [6, 10],
                "label": label,
                "probability": p,
                "prediction": int(p > 0.5),
                "selected": base64.b64encode(vector.tobytes()).decode(),
            }
        )
    return found


def figures_of(answers: list[dict[str, Any]]) -> dict[str, float]:
    y, p = [LABELS[one["label"]] for one in answers], [one["probability"] for one in answers]
    calls, questions = [one["prediction"] for one in answers], [one["question"] for one in answers]
    found = detection(Detected(y, p, calls, questions, [None] * len(y)))
    return {**found, "length_auroc": 0.55, "length_auroc_low": 0.5, "length_auroc_high": 0.6, "audit_length": 0.0,
            "audit_span": 1.0, "span_coverage": 0.5, "whole_response": 0.1}  # fmt: skip


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Logs of every stage and of a sweep of two series, with hostile text in answers and names."""
    out = tmp_path / "logs"
    file = make_probe(tmp_path / "artifacts" / "probes" / "aa")
    summary = {"directory": str(file.parent), "neurons_file": str(file)}
    answers = made_answers(HOSTILE)
    samples = [
        scored(f"{k:02d}", {"detected": Score(value="C", answer=one["answer"], metadata={**one, "probe": summary})})
        for k, one in enumerate(answers)
    ]
    found = figures_of(answers) | {
        "neurons": 3.0,
        "positive_neurons": 2.0,
        "total_neurons": 80.0,
        "share": 3 / 80,
        "stable_neurons": 2.0,
        "C": 0.5,
    }
    yields = {"questions": 300.0, "right": 100.0, "wrong": 150.0, "mixed": 50.0, "refused": 0.0, "unparsed": 0.0}
    write_log(out, "hneurons_eval/collect", yields, args={"dataset": "<i>facts</i>"})
    captured = {"faithful": 20.0, "hallucinated": 20.0, "span_coverage": 1.0, "whole_response": 0.1}
    write_log(out, "hneurons_eval/capture", captured)
    write_log(out, "hneurons_eval/probe", found, samples=samples)
    write_log(out, "hneurons_eval/detect", found, samples=samples, metadata={"probe": summary})
    swept = {"neurons": str(file), "neurons_digest": "d"}
    args = {"dataset": "<script>x.csv"}
    write_log(out, "hneurons_eval/faitheval", sweep_figures(0.3, ("plain", "resist")), metadata=swept, args=args)
    return out


def write(logs: Path, tmp_path: Path, *more: str) -> tuple[str, dict[str, Any]]:
    html, out = tmp_path / "out" / "report.html", tmp_path / "out" / "report.json"
    done = CliRunner().invoke(main, ["report", str(logs), *more, "--html", str(html), "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in html.parent.iterdir()) == ["report.html", "report.json"]
    return html.read_text(encoding="utf-8"), json.loads(out.read_text(encoding="utf-8"))


def test_the_page_is_whole_needs_no_network_and_takes_nothing_for_markup(logs: Path, tmp_path: Path):
    text, _ = write(logs, tmp_path)
    seen = Page(text)
    assert [tag for tag, _ in seen.tags if tag in ("script", "iframe", "link", "object", "i", "base", "form")] == []
    assert not [name for _, attrs in seen.tags for name in attrs if name.startswith("on")]
    assert all(source.startswith("data:image/png;base64,") for source in seen.values("src"))
    assert all(target.startswith("#") for target in seen.values("href"))
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    # What the model said is there as it said it, but for a character that turns the writing round.
    assert HOSTILE.replace("\u202e", "\\x202e") in seen.text
    assert "\u202e" not in text
    assert "<script>x" in seen.text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_every_figure_is_there_and_is_a_picture(logs: Path, tmp_path: Path):
    text, _ = write(logs, tmp_path)
    names = re.findall(r'<figure id="picture-([a-z0-9-]+)">', text)
    assert names == [
        "path", "layers", "stability", "baselines-0", "detection-0", "baselines-1", "detection-1",
        "sweep-0-0", "sweep-0-1",
    ]  # fmt: skip
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(images) == len(names)
    assert all(base64.b64decode(image, validate=True).startswith(b"\x89PNG\r\n") for image in images)
    anchors = re.findall(r'href="#(\w+)"', text)
    assert anchors
    assert all(f'id="{anchor}"' in text for anchor in anchors)


def test_the_json_has_the_figures_of_the_logs_and_the_page_prints_them(logs: Path, tmp_path: Path):
    from inspect_ai.log import read_eval_log

    text, said = write(logs, tmp_path)
    shown = Page(text).text
    assert said["model"] == MODEL
    assert [one["stage"] for one in said["logs"]] == ["collect", "capture", "probe", "detect", "faitheval"]
    for one in said["logs"]:
        results = read_eval_log(one["location"], header_only=True).results
        assert results is not None
        assert one["figures"] == pytest.approx({name: m.value for name, m in results.scores[0].metrics.items()})
    found = said["detection"][0]["figures"]
    assert f"{found['auroc']:.3f} [{found['auroc_low']:.3f}, {found['auroc_high']:.3f}]" in shown
    assert [series["name"] for series in said["sweeps"][0]["series"]] == ["plain", "resist"]
    for series in said["sweeps"][0]["series"]:
        own = series["figures"]
        assert series["outcomes"][0]["verdict"] == "effect"
        assert f"{own['compliance_slope']:+.2f} points per unit of alpha" in shown
        assert f"{100 * own['compliance@2']:.1f} [" in shown
    labels = said["detection"][1]["labels"]
    assert labels == [k % 2 for k in range(40)]
    assert said["missing"] == []


def test_the_strongest_neurons_stand_with_the_answers_that_drive_them_most(logs: Path, tmp_path: Path):
    _, said = write(logs, tmp_path)
    found = said["identification"]
    first, second, third = found["strongest"]
    assert [(one["layer"], one["neuron"], one["weight"], one["stability"]) for one in (first, second, third)] == [
        (1, 10, 3.0, 0.9), (1, 11, 2.0, 0.6), (0, 3, 1.0, 0.2),
    ]  # fmt: skip
    assert first["auroc"] == 1.0  # its contribution is the label
    assert [one["contrary"] for one in (first, second, third)] == [False, second["auroc"] < 0.5, False]
    assert {answer["label"] for answer in first["answers"]} == {"hallucinated"}
    assert [answer["question"] for answer in third["answers"]] == [
        f"What is the capital number {k}?" for k in (39, 38, 37)
    ]
    assert found["curve"][1] == {"C": 0.5, "neurons": 3, "held_out_auroc": 0.6, "held_out_accuracy": 0.5}
    assert found["C"] == 0.5


def test_stages_and_files_that_are_missing_are_said(tmp_path: Path):
    path = write_log(
        tmp_path / "logs", "falseqa", sweep_figures(0.0), metadata={"neurons": "gone", "neurons_digest": "d"}
    )
    text, said = write(path, tmp_path)
    shown = Page(text).text
    assert said["identification"] is None
    assert len(said["missing"]) == 4
    assert all(sentence in shown for sentence in said["missing"])
    assert "picture-path" not in text
    (line,) = said["overview"]
    assert line["status"] == "grey"
    assert line["figure"] == "no effect seen"


def test_an_unfinished_sweep_and_a_log_of_odd_samples_make_a_page(tmp_path: Path):
    out = tmp_path / "logs"
    write_log(out, "falseqa", None, metadata={"neurons_digest": "d"}, status="error")
    odd = [
        {"label": "hallucinated", "probability": True, "prediction": 1},
        {"label": "nonsense", "probability": 0.5, "prediction": 1},
        {"label": "faithful", "probability": 0.2, "prediction": 1, "span": [5, 2], "selected": "%%%"},
        {"label": "faithful", "probability": 0.3, "prediction": 1, "span": "no", "selected": 7},
        {"label": "hallucinated", "probability": 0.9, "prediction": 1, "span": [0, 999]},
    ]
    samples = [
        scored(k, {"detected": Score(value="C", metadata={"prediction": 1, **one})}) for k, one in enumerate(odd)
    ]
    write_log(out, "detect", {"answers": 3.0, "hallucinated": 1.0, "auroc": float("nan")}, samples=samples)
    text, said = write(out, tmp_path)
    Page(text)
    assert said["logs"][0]["figures"]["auroc"] is None
    assert sum(group["of"] for group in said["examples"]) == 3
    assert all(answer["span"] is None for group in said["examples"] for answer in group["answers"])
    assert "status error" in Page(text).text


def test_a_file_that_cannot_be_written_is_refused_in_a_sentence(tmp_path: Path):
    path = write_log(tmp_path / "logs", "falseqa", sweep_figures(0.0), metadata={"neurons_digest": "d"})
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["report", str(path), "--html", str(tmp_path / "file" / "x.html")])
    assert done.exit_code == 1
    assert "Error: " in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({}, "green", "The probe detects hallucinations"),
        ({}, "green", "It adds to log-probability, entropy and length (AUROC +0.050 [+0.010, +0.090])"),
        ({}, "green", "The probe's neurons beat random ones (AUROC 0.790, sd-matched sets"),
        ({"auroc_low": 0.49}, "red", "The probe is not shown to detect"),
        ({"auroc_p": 0.06}, "red", "The probe is not shown to detect"),
        ({"auroc_relations_low": 0.48, "auroc_relations_high": 1.0}, "amber", "for others it is not shown"),
        ({"length_difference_low": -0.01}, "amber", "Not shown to be better than response length"),
        ({"added_low": -0.01}, "amber", "It is not shown to add"),
        ({"added": -0.05, "added_low": -0.09, "added_high": -0.01}, "amber", "It makes log-probability"),
        ({"added_relations_low": -0.2, "added_relations_high": 0.3}, "amber", "over relations [-0.200, +0.300]"),
        ({"probe_sd_p": 0.3}, "amber", "probe's neurons are not shown to beat random ones"),
        ({"positive_sd_p": 0.3}, "amber", "positive neurons are not shown to beat random ones"),
        (
            {"logprob_auroc": 0.9, "scalars_and_probe_auroc": 0.85},
            "amber",
            "mean log-probability of the answer alone reaches",
        ),
        ({"probe_sd_p": 1 / 101}, "green", "p ≤ 0.010 (floor)"),
        ({"dense_auroc": 0.99, "dense_difference_low": -0.3}, "green", "The probe detects hallucinations"),
    ],
)
def test_detection_is_green_only_above_every_control_and_baseline(changed: dict[str, float], status: str, words: str):
    figures = {"auroc": 0.8, "auroc_low": 0.7, "auroc_high": 0.9, "auroc_p": 1 / 2001, "auroc_shuffles": 2000}
    figures |= {"added": 0.05, "added_low": 0.01, "added_high": 0.09}
    figures |= {"length_auroc": 0.6, "length_difference": 0.2, "length_difference_low": 0.1}
    for selection in ("probe", "positive"):
        figures[f"{selection}_refit_auroc"] = 0.79
        for kind in ("uniform", "sd"):
            own = f"{selection}_{kind}"
            figures |= {f"{own}_auroc": 0.6, f"{own}_p": 0.0099 if kind == "uniform" else 0.02, f"{own}_sets": 100}
    (line,) = overview([StageFigures("detect", {**figures, **changed}, "x")])
    assert line["status"] == status
    assert words in line["sentence"]
    if not changed:
        assert "p ≤ 0.001 (floor) with labels shuffled" in line["sentence"]


def test_a_detector_that_was_compared_with_nothing_is_not_green():
    figures = {"auroc": 0.8, "auroc_low": 0.7, "auroc_high": 0.9, "auroc_p": 0.001}
    (line,) = overview([StageFigures("detect", figures, "x")])
    assert line["status"] == "amber"
    assert "Compared with no baseline." in line["sentence"]


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (
            {
                "audit_calibration": 1.0,
                "brier_skill": -0.3,
                "calibration_error": 0.264,
                "calibration_error_null": 0.027,
            },
            "Brier skill -0.300 (below 0: worse than a constant); calibration error 0.264, of perfect probabilities "
            "0.027",
        ),
        ({"audit_leftover": 1.0, "leftover_share": 0.4}, "40 % of the answers are to questions of relations that were"),
    ],
)
def test_flagged_audits_have_a_status_and_a_sentence(figures: dict[str, float], words: str):
    lines = overview([StageFigures("detect", figures, "x")])
    (flagged,) = [line for line in lines if " audit, " in line["what"]]
    assert flagged["status"] == "amber"
    assert words in flagged["sentence"]


def test_neurons_whose_weight_has_another_sign_than_they_have_alone_are_marked():
    chosen = NeuronSet.from_flat(CHOSEN, NeuronLayout(WIDTHS), np.array([1.0, -2.0, 3.0]))
    rows = [
        {"question": f"q{k}", "response": "", "span": None, "label": label, "probability": 0.5,
         "selected": base64.b64encode(np.array([-y, y, y], "<f2").tobytes()).decode()}
        for k, (label, y) in enumerate(LABELS.items())
    ]  # fmt: skip
    found = strongest(chosen, rows)
    assert [(one["weight"], one["auroc"], one["contrary"]) for one in found] == [
        (3.0, 1.0, False), (-2.0, 1.0, True), (1.0, 0.0, True),
    ]  # fmt: skip


def test_a_band_of_nought_to_one_is_not_drawn():
    few, many = (LayerBand("b", (0.0, 0.0), (high, 1.0)) for high in (1.0, 2.0))
    assert not is_informative(few)
    assert is_informative(many)


def test_an_audit_names_the_log_that_it_is_of():
    figures = {"auroc": 0.6, "audit_length": 1.0}
    stages = [StageFigures("probe", figures, "a"), StageFigures("detect", figures, "b", title="detect on new")]
    whats = [line["what"] for line in overview(stages)]
    assert "length audit, held-out questions" in whats
    assert "length audit, fresh answers on new" in whats


def test_the_row_of_the_probe_counts_the_neurons_of_both_signs():
    figures = {
        "neurons": 17,
        "positive_neurons": 6,
        "auroc": 0.8,
        "auroc_p": 1 / 2001,
        "auroc_shuffles": 2000,
        "positive_auroc": 0.61,
    }
    figures |= {"positive_difference": 0.19, "positive_difference_low": 0.1, "positive_difference_high": 0.3}
    header, rows = detection_cells(figures)
    assert rows[0][:2] == ["probe: 17 neurons, 6 positive", "0.800"]
    assert rows[0][-1] == "≤ 0.001 (floor)"
    assert rows[1][:3] == ["its positive weights alone (the H-neurons)", "0.610", "+0.190 [+0.100, +0.300]"]
    assert len(header) == len(rows[0]) == len(rows[1])
    assert "not shown" in verdicts({"auroc": 0.6, "auroc_low": 0.5, "auroc_p": 0.2})[0][1]
    assert verdicts({}) == []


@pytest.mark.parametrize(
    ("stage", "figures", "status"),
    [
        ("collect", {"questions": 300, "right": 0, "wrong": 300}, "red"),
        ("collect", {"questions": 300, "right": 9, "wrong": 200}, "amber"),
        ("collect", {"questions": 300, "right": 90, "wrong": 100, "unparsed": 60}, "amber"),
        ("collect", {"questions": 300, "right": 90, "wrong": 100}, "green"),
        ("capture", {"faithful": 5, "hallucinated": 0, "span_coverage": 1}, "red"),
        ("capture", {"faithful": 5, "hallucinated": 5, "span_coverage": 0.5}, "amber"),
        ("probe", {"neurons": 0}, "red"),
        ("probe", {"neurons": 9, "positive_neurons": 0, "stable_neurons": 9}, "red"),
        ("probe", {"neurons": 10, "positive_neurons": 3, "stable_neurons": 4}, "amber"),
        ("probe", {"neurons": 10, "positive_neurons": 3, "stable_neurons": 5}, "green"),
        ("probe", {"auroc": 0.8}, "grey"),
    ],
)
def test_each_stage_has_the_status_that_its_figures_earn(stage: str, figures: dict[str, float], status: str):
    assert overview([StageFigures(stage, figures, "x")])[0]["status"] == status


def test_examples_are_the_surest_of_each_kind_and_each_question_stands_once(tmp_path: Path):
    rows = [
        {"question": f"q{k // 2}", "label": "hallucinated", "called": "hallucinated", "probability": k / 10}
        for k in range(10)
    ]
    first, missed, *_ = examples(rows)
    assert [one["probability"] for one in first["answers"]] == [0.9, 0.7, 0.5]
    assert first["of"] == 10
    assert missed["answers"] == []


def test_a_probe_is_found_beside_the_logs_whichever_directory_one_is_in(tmp_path: Path):
    make_probe(tmp_path / "run" / "artifacts" / "probes" / "aa")
    summary = {"directory": "artifacts/probes/aa/p", "neurons_file": "artifacts/probes/aa/p/neurons.json"}
    found = found_neurons(summary, [tmp_path / "run" / "logs" / "demo" / "x.eval"])
    assert found is not None
    assert found.neurons is not None
    assert found.neurons.flat(NeuronLayout(WIDTHS)).tolist() == CHOSEN
    assert found.neurons.stability is not None
    assert found_neurons(summary, [tmp_path / "elsewhere" / "x.eval"]) is None
    assert found_neurons({"directory": 7, "neurons_file": ""}, []) is None


def test_a_report_of_nothing_is_a_page():
    said = content([])
    assert said["overview"] == []
    assert len(said["missing"]) == 5
    assert "No log of a sweep" in Page(page(said)).text
