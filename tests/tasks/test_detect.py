"""Several question sets in one log, each with its figures; what is asserted of an invented thing is hallucinated."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inspect_ai.log import EvalLog
from inspect_ai.scorer import SampleScore, Score
from small_run import Run, artifacts_in, small_run, stage

from hneurons_eval.artifacts.references import Reference
from hneurons_eval.data.questions import Question, normalise_question
from hneurons_eval.data.selection import questions_for
from hneurons_eval.probe.baseline_classifiers import Baselines
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.scorers.detected import detection_figures
from hneurons_eval.tasks.detect import named_sets, set_label, untrained_samples
from hneurons_eval.util.errors import UsageError
from hneurons_eval.util.files import BASELINES
from hneurons_eval.util.packing import pack, unpack

INVENTED = [
    {"id": "town", "question": "In which country is the town of Velmarund?", "exists": False},
    {"id": "drug", "question": "What condition is the drug zorvatine used to treat?", "exists": False},
    {"id": "real", "question": "In which country is the town of Uppsala?", "aliases": ["Sweden"]},
]


@pytest.fixture(scope="module")
def run() -> Run:
    return small_run()


@pytest.fixture(scope="module")
def detected(run: Run, tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    directory = tmp_path_factory.mktemp("detect")
    invented = directory / "invented.jsonl"
    invented.write_text("".join(json.dumps(row) + "\n" for row in INVENTED), encoding="utf-8")
    with artifacts_in(run.directory / "artifacts"):
        return stage(
            "detect",
            directory / "logs",
            probe=run.logs["probe"].location,
            dataset=f"{run.fresh},{invented}",
            preset="quick",
            max_tokens=12,
            part="all",
        )


def details(log: EvalLog) -> dict[str, dict[str, Any]]:
    return {str(s.id): (s.scores or {})["detected"].metadata or {} for s in log.samples or []}


def figures(log: EvalLog) -> dict[str, float]:
    assert log.results is not None
    return {name: metric.value for score in log.results.scores for name, metric in score.metrics.items()}


def test_every_set_has_figures_of_its_own(detected: EvalLog):
    assert detected.status == "success", detected.error
    found = figures(detected)
    by_set = {name.split("/")[0] for name in details(detected)}
    assert by_set == {"fresh", "invented"}
    for name in by_set:
        own = [one for one in details(detected).values() if one["dataset"] == name]
        classified = [one for one in own if one.get("probability") is not None]
        assert found[f"{name}/answers"] == len(classified)
        skipped = sum(value for key, value in found.items() if key.startswith(f"{name}/skipped_"))
        assert len(classified) + skipped == len(own)


def test_an_invented_entity_is_judged_by_what_is_asserted_about_it(detected: EvalLog):
    for name, one in details(detected).items():
        if not name.startswith("invented/"):
            continue
        if name.endswith("real"):
            expected = {"correct": "faithful", "incorrect": "hallucinated"}.get(one["verdict"])
        else:
            expected = "hallucinated" if one["verdict"] == "incorrect" else "faithful"
        assert one["label"] == expected


def test_baselines_come_along_for_new_answers(run: Run, detected: EvalLog):
    summary = next(one["probe"] for one in details(detected).values() if one.get("probe"))
    with artifacts_in(run.directory / "artifacts"):
        kept = Baselines.load(Path(summary["directory"]) / BASELINES)
    for one in details(detected).values():
        if one.get("probability") is None:
            continue
        assert set(one["baselines"]) == {*kept.linear, "positive", "negative"}
        assert set(one["sets"]) == set(kept.sets) == {"probe", "positive"}
        length = float(kept.linear["length"](np.array([[one["response_tokens"]]], float))[0])
        assert one["baselines"]["length"] == pytest.approx(length)
        assert len(unpack(one["selected"])) == summary["neurons"]


def test_a_probe_without_baselines_still_detects(run: Run, tmp_path: Path):
    import shutil

    summary = next(iter(details(run.logs["probe"]).values()))["probe"]
    with artifacts_in(run.directory / "artifacts"):
        shutil.copytree(summary["directory"], tmp_path / "probe")
        (tmp_path / "probe" / BASELINES).unlink()
        log = stage(
            "detect", tmp_path, probe=str(tmp_path / "probe"), dataset=str(run.fresh), part="all", limit=2, max_tokens=8
        )
    assert log.status == "success", log.error
    for one in details(log).values():
        assert "baselines" not in one
        assert one.get("probability") is not None or one.get("skipped")


def test_the_first_answer_of_the_probe_log_carries_its_pictures(run: Run):
    events = [event for sample in run.logs["probe"].samples or [] for event in sample.events if event.event == "info"]
    (summary,) = [str(event.data) for event in events if event.source == "probe"]
    attached = {key: text for sample in run.logs["probe"].samples or [] for key, text in sample.attachments.items()}
    summary = attached[summary.removeprefix("attachment://")]
    for name in ("path over C", "neurons by layer", "ROC, reliability, probabilities"):
        assert f"![{name}](data:image/png;base64,iVBOR" in summary
    assert "| C | neurons | positive neurons | held out accuracy | held out log loss | held out auroc |" in summary
    assert "selected in half-samples" in summary


@pytest.mark.parametrize(
    ("dataset", "names"),
    [("facts", ["facts"]), ("a.jsonl, facts", ["a.jsonl", "facts"]), (["nq_open", "x/y.csv"], ["nq_open", "x/y.csv"])],
)
def test_question_sets_are_named_by_commas_or_a_list(dataset: Any, names: list[str]):
    assert named_sets(dataset) == names


@pytest.mark.parametrize("dataset", ["", ",", "facts,facts", "a/q.csv,b/q.jsonl"])
def test_no_set_and_one_set_twice_are_refused(dataset: str):
    with pytest.raises(UsageError, match="at least one question set, and none twice"):
        named_sets(dataset)


def test_a_file_is_called_by_its_name():
    assert set_label("data/triviaqa/validation.parquet") == "validation"
    assert set_label("nq_open") == "nq_open"


def test_packed_numbers_come_back():
    values = np.linspace(0, 1, 300)
    np.testing.assert_allclose(unpack(pack(values)), values, atol=5e-4)
    assert len(pack(values)) == 800
    with pytest.raises(ValueError):  # noqa: PT011
        unpack("not base64!")


def test_figures_of_nothing_are_empty():
    compute: Any = detection_figures()
    assert compute([]) == {}


# --- answers that balancing left over ----------------------------------------------------------------------


def trained_on(questions: list[Question]) -> Reference:
    probe = Probe()
    probe.metadata = {"training_questions": sorted({normalise_question(q.question) for q in questions})}
    return Reference("p", "p", None, probe)


def test_of_the_probes_own_set_the_untouched_part_is_asked_by_default():
    source = trained_on(questions_for("facts", "train", None)[:200])
    samples, left_out = untrained_samples(source, "facts", "auto", None, None, 1)
    assert {sample.id for sample in samples} == {q.id for q in questions_for("facts", "test", None)}
    assert left_out == {"facts": 0}
    assert all((sample.metadata or {})["trained_relation"] is False for sample in samples)
    elsewhere, _ = untrained_samples(trained_on([]), "facts", "auto", None, None, 1)
    assert len(elsewhere) == len(questions_for("facts", "all", None))
    assert all("trained_relation" not in (sample.metadata or {}) for sample in elsewhere)


def test_what_balancing_left_over_is_marked_where_it_is_asked_for():
    known = questions_for("facts", "train", None)
    relation = known[0].relation
    trained = [q for q in known if q.relation == relation][:10]
    samples, left_out = untrained_samples(trained_on(trained), "facts", "all", None, None, 1)
    assert left_out == {"facts": len(trained)}
    clean = {q.id for q in questions_for("facts", "test", None)}
    for sample in samples:
        about = sample.metadata or {}
        expected = about["relation"] == relation and sample.id not in clean
        assert about["trained_relation"] == expected, sample.id
    assert any((sample.metadata or {})["trained_relation"] for sample in samples)


@pytest.mark.parametrize(("marks", "share"), [([True, False], 0.5), ([False], 0.0), ([None], None)])
def test_leftovers_are_flagged_in_the_figures(marks: list[bool | None], share: float | None):
    rng = np.random.default_rng(0)
    rows = []
    for k in range(40):
        row = {
            "label": "hallucinated" if k % 2 else "faithful",
            "probability": float(rng.random()),
            "prediction": k % 2,
            "question": f"q{k}",
            "response_tokens": 9,
            "answer_tokens": 3,
            "prompt_tokens": 20,
        }
        mark = marks[k % len(marks)]
        rows.append(row if mark is None else row | {"trained_relation": mark})
    compute: Any = detection_figures()
    found = compute([SampleScore(score=Score(value="C", metadata=row)) for row in rows])
    assert found.get("leftover_share") == share
    assert found.get("audit_leftover") == (None if share is None else float(share > 0))


@pytest.mark.parametrize(("slope", "flagged"), [(1.0, 0.0), (-1.0, 1.0)])
def test_probabilities_that_are_worse_than_a_constant_are_flagged(slope: float, flagged: float):
    rng = np.random.default_rng(0)
    p = rng.beta(1, 1, 200)
    y = rng.random(200) < (p if slope > 0 else 1 - p)
    rows = [
        {
            "label": "hallucinated" if label else "faithful",
            "probability": float(value),
            "prediction": int(value > 0.5),
            "question": f"q{k}",
            "response_tokens": 9,
            "answer_tokens": 3,
            "prompt_tokens": 20,
        }
        for k, (label, value) in enumerate(zip(y, p, strict=True))
    ]
    compute: Any = detection_figures()
    found = compute([SampleScore(score=Score(value="C", metadata=row)) for row in rows])
    assert found["audit_calibration"] == flagged
    assert (found["brier_skill"] < 0) == bool(flagged)
