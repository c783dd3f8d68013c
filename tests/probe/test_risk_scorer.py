"""The risk in a program of one's own is the probability that the tasks report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import small_run
from transformers import AutoModelForCausalLM, AutoTokenizer

from hneurons_eval import NeuronLayout, Probe, RiskScorer, answer_contributions, neuron_layout, resolve_model

QUESTIONS = ["What is the capital of France?", "Who wrote Hamlet?", "Name a dish of Italy.", "Name a colour."]
ANSWERS = ["Paris", "It was written by William Shakespeare.", "pizza", "a kind of blue"]


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Callable[..., Path]) -> tuple[Any, Any]:
    directory = tiny_checkpoint("llama")
    return AutoModelForCausalLM.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_the_risk_is_the_probability_of_the_probe(tiny: tuple[Any, Any], reduce: Any):
    X = answer_contributions(*tiny, QUESTIONS, ANSWERS, reduce=reduce)
    probe = Probe(penalty="l2", C=10.0).fit(X, [0, 1, 1, 0], widths=neuron_layout(tiny[0]).widths)
    probe.metadata = {"reduce": reduce}
    risk = RiskScorer(*tiny, probe)
    expected = probe.predict_proba(X)[:, 1]
    np.testing.assert_allclose(risk.many(QUESTIONS, ANSWERS), expected, rtol=1e-6)
    np.testing.assert_allclose([risk(*pair) for pair in zip(QUESTIONS, ANSWERS, strict=True)], expected, rtol=1e-4)


def test_a_probe_of_another_model_is_refused(tiny: tuple[Any, Any]):
    layout = NeuronLayout((5, 5))
    probe = Probe(penalty="l2").fit(np.eye(10, dtype=np.float32), [0, 1] * 5, widths=layout.widths, model="a/model")
    with pytest.raises(ValueError, match=r"a/model with 10 neurons in 2 layers, this model has .*use a probe of this"):
        RiskScorer(*tiny, probe)


def test_it_is_what_detect_reports():
    """The probe of a real run, on the answers of its `detect` log."""
    name = resolve_model("smollm2-135m-instruct")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    compared = 0
    for sample in (small_run().logs["detect"].samples or [])[:6]:
        found = (sample.output.metadata or {})["hneurons"]
        if found.get("probability") is not None:
            risk = RiskScorer(model, tokenizer, Probe.load(found["probe"]["directory"]))
            assert risk(str(sample.input), sample.output.completion) == pytest.approx(found["probability"], abs=1e-4)
            compared += 1
    assert compared
