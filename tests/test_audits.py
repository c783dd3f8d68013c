"""Audits bite where something is wrong, and only there."""

import numpy as np
import pytest

from hneurons_eval import audits
from hneurons_eval.statistics import auroc

RNG = np.random.default_rng(0)
N = 400
TRUTH = RNG.integers(0, 2, N)


def test_balance():
    assert not audits.class_balance(TRUTH).flagged
    rare = audits.class_balance([0] * 95 + [1] * 5)
    assert rare.flagged
    assert rare.figures == {"hallucinated_share": 0.05}
    assert rare.sentence.startswith("5 of 100 answers are hallucinated")


def test_length_that_says_nothing_passes_and_length_that_tells_is_flagged():
    lengths = RNG.integers(1, 12, N)
    assert not audits.length_against_truth(None, TRUTH, lengths).flagged
    told = audits.length_against_truth(None, TRUTH, lengths + 6 * TRUTH)
    assert told.flagged
    assert told.figures["length_auroc"] == pytest.approx(auroc(TRUTH, lengths + 6 * TRUTH))
    # Short answers that are hallucinated tell as much.
    assert audits.length_against_truth(None, TRUTH, lengths - 6 * TRUTH).flagged
    cells = [
        told.figures[f"{length}_{label}"] for length in ("short", "long") for label in ("faithful", "hallucinated")
    ]
    assert sum(cells) == N


def test_neurons_that_follow_length_are_counted():
    long = RNG.integers(0, 2, N)
    lengths = 3 + 6 * long
    noise = RNG.normal(0, 0.1, (N, 4))
    neurons = noise + np.stack([TRUTH, 2 * TRUTH + long, 2 * long + TRUTH, -2 * long], axis=1)
    found = audits.length_against_truth(neurons, TRUTH, lengths)
    assert found.figures["moved_more_by_length"] == 2
    assert found.figures["audited_neurons"] == 4
    assert not found.flagged  # not more than half of them
    assert audits.length_against_truth(neurons[:, 1:], TRUTH, lengths).flagged


def test_unequal_cells_do_not_make_truth_look_like_length():
    # Nine in ten hallucinated answers are long; the neuron knows length alone.
    long = (RNG.random(N) < np.where(TRUTH == 1, 0.9, 0.1)).astype(int)
    neuron = long[:, None] + RNG.normal(0, 0.05, (N, 1))
    found = audits.length_against_truth(neuron, TRUTH, 3 + 6 * long)
    assert found.figures["moved_more_by_length"] == 1


def test_one_length_for_all_and_one_class_are_no_error():
    assert not audits.length_against_truth(np.ones((N, 2)), TRUTH, np.full(N, 4)).flagged
    assert not audits.length_against_truth(np.ones((3, 2)), [1, 1, 1], [1, 2, 3]).flagged


def test_a_relation_that_gives_the_label_away_is_flagged():
    balanced = [f"r{k % 8}" for k in range(N)]
    assert not audits.label_from_group(np.arange(N) // 8 % 2, balanced, "relation").flagged
    telling = [f"r{label}{k % 3}" for k, label in enumerate(TRUTH)]
    found = audits.label_from_group(TRUTH, telling, "relation")
    assert found.flagged
    assert found.figures["relation_auroc"] == 1.0
    assert not audits.label_from_group(TRUTH, [None] * N, "relation").figures


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
