"""Audits bite where something is wrong, and only there."""

import numpy as np
import pytest

from hneurons_eval.analysis import audits

RNG = np.random.default_rng(0)
N = 400
TRUTH = RNG.integers(0, 2, N)


def test_balance():
    assert not audits.class_balance(TRUTH).flagged
    rare = audits.class_balance([0] * 95 + [1] * 5)
    assert rare.flagged
    assert rare.figures == {"hallucinated_share": 0.05}
    assert rare.sentence.startswith("5 of 100 answers are hallucinated")


def test_a_relation_that_gives_the_label_away_is_flagged():
    balanced = [f"r{k % 8}" for k in range(N)]
    assert not audits.label_from_group(np.arange(N) // 8 % 2, balanced, "relation").flagged
    telling = [f"r{label}{k % 3}" for k, label in enumerate(TRUTH)]
    found = audits.label_from_group(TRUTH, telling, "relation")
    assert found.flagged
    assert found.figures["relation_auroc"] == 1.0
    assert found.figures["relation_p"] == 1 / (1 + audits.SHUFFLES)
    assert found.figures["relation_auroc_shuffled"] < 0.5  # leaving oneself out
    assert not audits.label_from_group(TRUTH, [None] * N, "relation").figures


def test_a_relation_without_a_label_is_flagged_seldom():
    rng = np.random.default_rng(1)
    groups = [f"r{k % 10}" for k in range(120)]
    flagged = [audits.label_from_group(rng.integers(0, 2, 120), groups, "relation").flagged for _ in range(60)]
    assert np.mean(flagged) <= 0.12
    # Ten answers to each of 12 questions: labels stay with their question.
    questions = np.repeat(np.arange(12), 10)
    labels = np.repeat([0, 1] * 6, 10)
    assert not audits.label_from_group(labels, [f"r{k // 2}" for k in questions], "relation", questions).flagged


def test_spans_that_are_missing_or_everything_are_flagged():
    assert not audits.spans(1, [False] * 60 + [True] * 40).flagged
    assert audits.spans(10, [False] * 90).flagged
    whole = audits.spans(0, [True] * 95 + [False] * 5)
    assert whole.flagged
    assert whole.figures == {"span_coverage": 1.0, "whole_response": 0.95}


def test_other_tokens_that_are_mostly_prompt_are_flagged():
    assert audits.template_share([40, 40], [3, 5], [2, 4]).figures["template_share"] == pytest.approx(40 / 41)
    assert audits.template_share([40], [3], [2]).flagged
    assert not audits.template_share([40], [60], [2]).flagged


def test_overlap_counts_questions():
    assert audits.overlap(["a", "b"], ["c"]).figures == {"overlap": 0.0}
    found = audits.overlap(["a", "b", "b"], ["b", "b", "c"])
    assert found.flagged
    assert found.sentence == "1 of 2 tested questions were trained on"
