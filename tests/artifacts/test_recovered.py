"""Samples that Inspect recovered from a killed process have their scores, and an output that may be another's."""

from pathlib import Path

import numpy as np
import pytest
from inspect_ai.log import read_eval_log
from inspect_ai.scorer import Score
from report_logs import scored, write_log

from hneurons_eval.artifacts.logs import judged_answers, probe_summary
from hneurons_eval.artifacts.references import resolve
from hneurons_eval.probe.classifier import Probe


def test_a_verdict_is_told_with_the_answer_that_it_is_about(tmp_path: Path):
    details = {
        "verdict": "incorrect", "by": "llm", "grader": "openai/judge", "aliases": ["Paris"], "question": "Capital?",
    }  # fmt: skip
    score = Score(value="I", answer="Lyon", metadata=details)
    path = write_log(tmp_path, "hneurons_eval/closed_book", {}, samples=[scored(1, {"judge": score}, "Paris")])
    (found,) = judged_answers(read_eval_log(str(path)))
    assert (found.response, dict(found.verdicts)) == ("Lyon", {"llm openai/judge": "incorrect"})


def test_a_probe_is_found_in_the_scores_where_no_output_was_recovered(tmp_path: Path):
    summary = {"directory": "somewhere", "C": 1.0}
    score = Score(value="C", metadata={"probe": summary})
    path = write_log(tmp_path, "hneurons_eval/probe", {}, samples=[scored(1, {"detected": score})])
    assert probe_summary(read_eval_log(str(path))) == summary


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_a_probe_directory_is_applied_as_it_was_trained(tmp_path: Path, reduce: str):
    rng = np.random.default_rng(0)
    fitted = Probe(C=10.0).fit(rng.random((20, 6)), np.arange(20) % 2, widths=(6,), metadata={"reduce": reduce})
    fitted.save(tmp_path / "probe")
    assert resolve(str(tmp_path / "probe")).reduce == reduce
