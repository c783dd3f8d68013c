"""The risk of an answer, of each of its tokens, and of many answers against what their task says of them."""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import Run, small_run

from hneurons_eval.analysis.selective_prediction import (
    ScoredAnswer,
    area_statistic,
    area_under_risk_coverage,
    risk_coverage,
    risk_figures,
    score_of,
)
from hneurons_eval.engine.engine import Engine
from hneurons_eval.engine.requests import AnswerCapture, CapturedAnswer, CaptureRequest, GenerateRequest, Generation
from hneurons_eval.engine.risk import GivenAnswer, RiskProbe, RiskSpec, risk_probe
from hneurons_eval.engine.sampling import SamplingOptions
from hneurons_eval.models.checkpoints import load_model
from hneurons_eval.models.contributions import contributions
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.probe.files import ProbeError
from hneurons_eval.report.figures import risk_coverage as picture
from hneurons_eval.report.token_heat_map import COLUMNS, MAX_TOKENS, layout_cells, token_heat_map
from hneurons_eval.util.errors import UsageError

MakeCheckpoint = Callable[..., Path]
KINDS = ["llama", "gpt2", "mixtral", "qwen2_moe", "deepseek_v3"]
PNG = b"\x89PNG\r\n\x1a\n"
TIMEOUT = 60


# ---- contributions at every token -------------------------------------------------------------------


def at_single_tokens(model: Any, ids: tuple[int, ...], places: range) -> np.ndarray:
    """By definition: each token a region of its own, `[tokens, neurons]`."""
    regions = torch.zeros(1, len(places), len(ids), dtype=torch.bool)
    for row, place in enumerate(places):
        regions[0, row, place] = True
    given = torch.tensor([ids])
    return contributions(model, given, torch.ones_like(given), regions)[0].numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_per_token_contributions_are_those_of_a_region_for_each_token(tiny_checkpoint: MakeCheckpoint, kind: str):
    path = tiny_checkpoint(kind)
    engine, model = Engine(str(path), dtype="float32", device="cpu", threads=1), load_model(path, dtype="float32")
    pick = random.Random(1)
    total = engine.layout.total
    sets = [sorted(pick.sample(range(total), number)) for number in (1, 9, total // 3)]
    prompts = [tuple(pick.randrange(3, 49152) for _ in range(length)) for length in (3, 8, 5, 8)]
    asked = [
        GenerateRequest(
            prompts[k % 4],
            2 + k % 5,
            SamplingOptions(),
            sample=k,
            capture=AnswerCapture(
                lambda text: (0, len(text)) if text else None,
                per_token=NeuronSet.from_flat(sets[k % 3], engine.layout) if k % 4 else None,
            ),
        )
        for k in range(8)
    ]
    for k, said in enumerate([future.result(TIMEOUT) for future in [engine.generate(one) for one in asked]]):
        taken = said.captured
        assert taken is not None
        if k % 4 == 0 or taken.contributions is None:
            assert taken.per_token is None
            continue
        ids = asked[k].prompt + said.tokens[: taken.response_tokens]
        expected = at_single_tokens(model, ids, range(len(asked[k].prompt), len(ids)))[:, sets[k % 3]]
        assert taken.per_token is not None
        np.testing.assert_allclose(taken.per_token, expected, rtol=1e-3, atol=1e-5)
    # The same of given texts, of several lengths and neuron sets in one pass.
    wanted = [
        CaptureRequest(
            prompts[k % 4] + tuple(pick.randrange(3, 49152) for _ in range(1 + k)),
            ((len(prompts[k % 4]),),),
            response_from=len(prompts[k % 4]),
            per_token=None if k == 2 else NeuronSet.from_flat(sets[k % 3], engine.layout),
        )
        for k in range(6)
    ]
    for k, captured in enumerate([future.result(TIMEOUT) for future in [engine.capture(one) for one in wanted]]):
        if k == 2:
            assert captured.per_token is None
            continue
        begin = wanted[k].response_from
        assert begin is not None
        expected = at_single_tokens(model, wanted[k].tokens, range(begin, len(wanted[k].tokens)))[:, sets[k % 3]]
        assert captured.per_token is not None
        np.testing.assert_allclose(captured.per_token, expected, rtol=1e-3, atol=1e-5)


def test_neurons_of_another_model_are_refused(tiny_checkpoint: MakeCheckpoint):
    engine = Engine(str(tiny_checkpoint()), dtype="float32", device="cpu", threads=1)
    foreign = NeuronSet.from_flat([0], NeuronLayout((7, 7)))
    whole = AnswerCapture(lambda text: (0, len(text)), per_token=foreign)
    with pytest.raises(NeuronSetError, match="2 layers"):
        engine.generate(GenerateRequest((5, 6), 2, capture=whole))
    with pytest.raises(NeuronSetError, match="2 layers"):
        engine.capture(CaptureRequest((5, 6), ((1,),), response_from=1, per_token=foreign))
    with pytest.raises(ValueError, match="response_from"):
        engine.capture(CaptureRequest((5, 6), ((1,),), per_token=NeuronSet.from_flat([0], engine.layout)))


# ---- a probe's word on one answer -------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: MakeCheckpoint) -> Engine:
    return Engine(str(tiny_checkpoint(max_position_embeddings=128)), dtype="float32", device="cpu", threads=1)


def probe_for(layout: NeuronLayout, directory: Path, penalty: Any = "l1", **metadata: Any) -> RiskProbe:
    """A probe with some weights of either sign."""
    rng = np.random.default_rng(3)
    probe = Probe(penalty)
    probe.coef_ = np.zeros(layout.total)
    chosen = np.arange(layout.total) if penalty == "l2" else rng.choice(layout.total, 12, replace=False)
    probe.coef_[chosen] = rng.normal(0, 3, len(chosen))
    probe.intercept_, probe.widths, probe.metadata = -0.3, layout.widths, metadata
    probe.save(directory)
    return risk_probe(str(directory))


def test_the_answers_log_odds_are_the_mean_of_its_tokens(tiny: Engine, tmp_path: Path):
    probe = probe_for(tiny.layout, tmp_path / "probe")
    spec = RiskSpec(probe.directory, "response")
    for number in range(6):
        request = GenerateRequest(
            (7, 8, 9 + number), 12, SamplingOptions(), sample=number, top_logprobs=0, capture=probe.capture(spec)
        )
        said = tiny.generate(request).result(TIMEOUT)
        found = probe.of_sampled(said, spec, tiny)
        logits = np.array([token[2] for token in found["tokens"]])
        assert len(logits) == found["response_tokens"] == found["answer_tokens"]
        assert said.captured is not None
        assert said.captured.contributions is not None
        odds = probe.probe.decision_function(said.captured.contributions[:1])[0]
        assert logits.mean() == pytest.approx(odds, abs=2e-4)  # four decimals are kept
        assert np.log(found["probability"] / (1 - found["probability"])) == pytest.approx(odds, abs=1e-6)


def test_a_part_of_the_answer_has_the_mean_of_that_part(tiny: Engine, tmp_path: Path):
    probe = probe_for(tiny.layout, tmp_path / "probe")
    response = "It is Paris. That much is certain."
    given = GivenAnswer(probe, RiskSpec(probe.directory, "rule", "What is the capital?"), tiny, (7, 8, 9), response)
    assert given.request is not None
    found = given.judged(tiny.capture(given.request).result(TIMEOUT))
    start, end = found["span"]
    assert 0 < found["answer_tokens"] < found["response_tokens"]
    inside = [logit for begin, stop, logit in found["tokens"] if begin < end and stop > start]
    assert len(inside) == found["answer_tokens"]
    odds = np.log(found["probability"] / (1 - found["probability"]))
    assert np.mean(inside) == pytest.approx(odds, abs=2e-4)
    assert np.mean([token[2] for token in found["tokens"]]) != pytest.approx(odds, abs=1e-3)


def test_an_answer_judged_while_it_is_generated_is_judged_as_it_stands(tiny: Engine, tmp_path: Path):
    for reduce in ("mean", "max"):
        probe = probe_for(tiny.layout, tmp_path / reduce, reduce=reduce)
        spec, prompt = RiskSpec(probe.directory, "response"), (7, 8, 9)
        request = GenerateRequest(prompt, 10, SamplingOptions(), sample=4, top_logprobs=0, capture=probe.capture(spec))
        said = tiny.generate(request).result(TIMEOUT)
        found = probe.of_sampled(said, spec, tiny)
        again = GivenAnswer(probe, spec, tiny, prompt, said.text)
        assert again.request is not None
        assert again.request.reduce == reduce
        if again.request.tokens != prompt + said.tokens[: found["response_tokens"]]:
            continue  # the tokenizer cuts this text in another way
        judged = again.judged(tiny.capture(again.request).result(TIMEOUT))
        assert judged["probability"] == pytest.approx(found["probability"], abs=1e-4)
        assert judged["answer_logprob"] == pytest.approx(found["answer_logprob"], abs=1e-3)
        np.testing.assert_allclose(judged["tokens"], found["tokens"], atol=2e-3)


def test_what_cannot_be_judged_says_why(tiny: Engine, tmp_path: Path):
    probe = probe_for(tiny.layout, tmp_path / "probe")
    spec = RiskSpec(probe.directory, "rule", "What?")
    for response, reason in (
        ("  \n", "empty answer"),
        ("", "empty answer"),
        ("Paris " * 200, "longer than the context"),
    ):
        given = GivenAnswer(probe, replace(spec, span="response"), tiny, (7,), response)
        assert given.request is None
        assert given.found["skipped"] == reason
        assert "probability" not in given.found
    nothing = Generation((5,), " ", "stop", (), CapturedAnswer(1, None, (), None))
    assert probe.of_sampled(nothing, spec, tiny)["skipped"] == "empty answer"
    elsewhere = Generation((5,), "Paris", "stop", (), CapturedAnswer(1, (0, 5), (), None))
    assert probe.of_sampled(elsewhere, spec, tiny)["skipped"] == "no answer span"
    context_full = Generation((), "", "model_length", ())
    assert probe.of_sampled(context_full, spec, tiny)["skipped"] == "empty answer"


def test_a_dense_probe_judges_the_answer_but_no_tokens(tiny: Engine, tmp_path: Path):
    probe = probe_for(tiny.layout, tmp_path / "dense", "l2")
    assert probe.nonzero is None
    given = GivenAnswer(probe, RiskSpec(probe.directory, "response"), tiny, (7, 8), "Paris")
    assert given.request is not None
    found = given.judged(tiny.capture(given.request).result(TIMEOUT))
    assert 0 < found["probability"] < 1
    assert "tokens" not in found


def test_probes_that_do_not_fit_are_refused(tiny: Engine, tmp_path: Path):
    probe = probe_for(NeuronLayout((9, 9)), tmp_path / "other")
    with pytest.raises(ProbeError, match="2 layers"):
        probe.check(tiny.layout, "tiny")
    with pytest.raises(UsageError, match="does not exist; give a neuron file"):
        risk_probe(str(tmp_path / "missing"))
    with pytest.raises(ProbeError, match="'median'"):
        probe_for(tiny.layout, tmp_path / "median", reduce="median")


@pytest.mark.parametrize(
    "value", ["probe", {}, {"probe": 1}, {"probe": "p", "span": "llm"}, {"probe": "p", "spam": 1}, {"span": "rule"}]
)
def test_malformed_requests_are_refused(value: Any):
    with pytest.raises(ValueError, match="risk"):
        RiskSpec.parse(value)


@pytest.fixture(scope="module")
def run() -> Run:
    return small_run()


def test_the_risk_is_the_probability_that_detect_reports(run: Run):
    """The probe of a real run, on answers of its `detect` log, given as texts."""
    log = run.logs["detect"]
    engine = Engine("smollm2-135m-instruct", dtype="float32", device="cpu", threads=1)
    from hneurons_eval.engine.prompts import PromptFormat

    compared = 0
    for sample in log.samples or []:
        found = (sample.output.metadata or {})["hneurons"]
        if found.get("probability") is None:
            continue
        probe = risk_probe(found["probe"]["directory"])
        assert probe.reduce == "mean"
        assert probe.probe.metadata["reduce"] == "mean"
        prompt = PromptFormat(engine.tokenizer).encode([m for m in sample.messages if m.role != "assistant"])
        spec = RiskSpec(probe.directory, "rule", sample.metadata["question"])
        given = GivenAnswer(probe, spec, engine, prompt, sample.output.completion)
        assert given.request is not None
        judged = given.judged(engine.capture(given.request).result(TIMEOUT))
        assert judged["probability"] == pytest.approx(found["probability"], abs=1e-3)
        assert judged["span"] == found["span"]
        compared += 1
    assert compared >= 4


# ---- risk and coverage ------------------------------------------------------------------------------


def test_an_example_worked_by_hand():
    losses, risks = [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]
    coverage, error = risk_coverage(losses, risks)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert error == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert area_under_risk_coverage(losses, risks) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert area_under_risk_coverage(losses, losses) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    # The worst order: both wrong answers first.
    assert area_under_risk_coverage(losses, [1, 0, 1, 0]) == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)


answers = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 2).map(lambda k: k / 2)), min_size=1, max_size=6
)


@given(answers)
@settings(max_examples=60, deadline=None)
def test_equal_risks_give_the_mean_over_all_their_orders(rows: list[tuple[float, float]]):
    losses, risks = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    curves = []
    for order in itertools.permutations(range(len(rows))):
        if all(risks[a] <= risks[b] for a, b in itertools.pairwise(order)):
            curves.append([losses[list(order[: k + 1])].mean() for k in range(len(rows))])
    expected = np.mean(curves, axis=0)
    np.testing.assert_allclose(risk_coverage(losses, risks)[1], expected, atol=1e-12)
    assert area_under_risk_coverage(losses, risks) == pytest.approx(expected.mean())
    assert area_under_risk_coverage(losses, np.zeros(len(rows))) == pytest.approx(losses.mean())
    assert area_under_risk_coverage(losses, losses) <= area_under_risk_coverage(losses, risks) + 1e-12


@given(answers, st.data())
@settings(max_examples=60, deadline=None)
def test_weights_count_an_answer_as_often_as_it_was_drawn(rows: list[tuple[float, float]], data: st.DataObject):
    losses, risks = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    drawn = np.array([data.draw(st.integers(0, 3)) for _ in rows])
    statistic = area_statistic(losses, risks)
    value = statistic(np.stack([drawn, np.ones(len(rows))]).astype(float))
    assert value[1] == pytest.approx(area_under_risk_coverage(losses, risks))
    if drawn.sum():
        repeated = np.repeat(np.arange(len(rows)), drawn)
        assert value[0] == pytest.approx(area_under_risk_coverage(losses[repeated], risks[repeated]))
    else:
        assert np.isnan(value[0])


@pytest.mark.parametrize(("losses", "risks"), [([], []), ([1, 0], [0.5]), ([1, np.nan], [0.1, 0.2]), ([[1]], [[0]])])
def test_what_is_no_list_of_answers_is_refused(losses: Any, risks: Any):
    with pytest.raises(ValueError, match="losses and risks must be"):
        risk_coverage(losses, risks)


def many(count: int = 60, seed: int = 0) -> list[ScoredAnswer]:
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        wrong = rng.random() < 0.5
        risk = float(np.clip(rng.normal(0.65 if wrong else 0.4, 0.2), 0.01, 0.99))
        found.append(
            ScoredAnswer(f"q{number}", risk, 0.5, float(not wrong), length=int(rng.integers(3, 9)), logprob=-1)
        )
    return found


def test_figures_against_their_definitions():
    found, answers_ = risk_figures(many()), many()
    wrong = np.array([1 - (a.correct or 0) for a in answers_])
    risks = np.array([a.risk for a in answers_])
    pairs = [(r, s) for r in risks[wrong == 1] for s in risks[wrong == 0]]
    assert found["auroc"] == pytest.approx(np.mean([float(r > s) + 0.5 * float(r == s) for r, s in pairs]))
    assert found["auroc_low"] < found["auroc"] < found["auroc_high"]
    assert found["brier"] == pytest.approx(np.mean((risks - wrong) ** 2))
    assert found["mean_risk"] == pytest.approx(risks.mean())
    assert found["above_threshold"] == pytest.approx((risks > 0.5).mean())
    assert found["error"] == found["aurc_random"] == pytest.approx(wrong.mean())
    assert found["coverage_at_threshold"] == pytest.approx((risks <= 0.5).mean())
    assert found["error_at_threshold"] == pytest.approx(wrong[risks <= 0.5].mean())
    assert found["aurc"] == pytest.approx(area_under_risk_coverage(wrong, risks))
    assert found["aurc_excess"] == pytest.approx(found["aurc"] - found["aurc_oracle"])
    assert found["aurc_gain"] == pytest.approx(found["aurc_random"] - found["aurc"])
    assert risk_figures(many(200))["aurc_gain_low"] > 0
    assert found["logprob_auroc"] == 0.5  # all are equally likely


def test_resampling_draws_questions_not_answers():
    once = many()
    thrice = [answer for answer in once for _ in range(3)]  # three epochs that say the same tell nothing new
    single, triple = risk_figures(once), risk_figures(thrice)
    for name in ("auroc", "mean_risk", "error"):
        for end in ("", "_low", "_high"):
            assert triple[name + end] == pytest.approx(single[name + end])


def test_what_was_withheld_or_not_attempted_is_counted_and_not_compared():
    base = many()
    extra = [
        ScoredAnswer("abstained", 0.9, 0.5, 1.0, done="abstained"),
        ScoredAnswer("refused", 0.1, 0.5, None, refused=True),
        ScoredAnswer("again", 0.2, 0.5, None, done="answered again"),
    ]
    found, plain = risk_figures([*base, *extra]), risk_figures(base)
    assert (found["answers"], found["abstained"], found["answered_again"], found["not_attempted"]) == (63, 1, 1, 1)
    for name in ("auroc", "aurc", "error", "scored_by_task", "brier"):
        assert found[name] == plain[name]
    assert "abstained" not in plain


def test_few_answers_or_one_class_give_what_can_be_given():
    assert risk_figures([]) == {"answers": 0}
    alone = risk_figures([ScoredAnswer("q", 0.7, 0.5, 0.0)])
    assert (alone["error"], alone["mean_risk"]) == (1.0, 0.7)
    assert "auroc" not in alone
    assert "error_at_threshold" not in alone  # none is given
    unscored = risk_figures([ScoredAnswer("q", 0.7, 0.5), ScoredAnswer("r", 0.2, 0.5)])
    assert (unscored["answers"], unscored["not_attempted"]) == (2, 0)
    assert "error" not in unscored


@pytest.mark.parametrize(
    ("value", "number", "refused"),
    [
        ("C", 1.0, False),
        ("I", 0.0, False),
        ("P", 0.5, False),
        ("N", None, True),
        (True, 1.0, False),
        (0.25, 0.25, False),
        (3, None, False),
        (float("nan"), None, False),
        ("C ", None, False),
        ({"a": 1}, None, False),
        (None, None, False),
    ],
)
def test_scores_of_tasks_as_numbers(value: Any, number: float | None, refused: bool):
    assert score_of(value) == (number, refused)


# ---- pictures ---------------------------------------------------------------------------------------


def cut(text: str, edges: list[int]) -> list[tuple[int, int, float]]:
    places = sorted({0, len(text), *(edge % (len(text) + 1) for edge in edges)})
    return [(a, b, (-1) ** k * k / 3) for k, (a, b) in enumerate(itertools.pairwise(places))]


@given(st.text(max_size=300), st.lists(st.integers(0, 300), max_size=40), st.integers(0, 300), st.integers(1, 50))
@settings(max_examples=80, deadline=None)
def test_every_character_stands_in_the_strip_once_and_in_order(text: str, edges: list[int], start: int, more: int):
    tokens = cut(text, edges) or [(0, 0, 0.0)]
    cells = layout_cells(text, tokens, (start, start + more))
    shown = "".join(cell.text for cell in cells)
    expected = "".join("↵" if c == "\n" else c if c.isprintable() else "·" for c in text)
    assert shown == (expected or "∅")
    for one, following in itertools.pairwise(cells):
        assert (following.line, following.column) >= (one.line, one.column + one.width) or following.line > one.line
    for cell in cells:
        assert cell.column + cell.width <= 2 * COLUMNS  # wide characters take two places
        assert cell.width >= 1


def test_a_long_answer_shows_what_is_around_the_span():
    text = "abcd " * 1000
    tokens = [(at, at + 5, 0.0) for at in range(0, 5000, 5)]
    cells = layout_cells(text, tokens, (4000, 4004))
    assert len(cells) == MAX_TOKENS
    assert [cell.inside for cell in cells].count(True) == 1
    assert cells[0].text == "…abcd "


@pytest.mark.parametrize("text", ["Paris", "$x_1$ \\frac", "\x00\x1b[31m", "日本語 😀 é\n\n", "a" * 999])
def test_strips_are_pictures_whatever_the_text(text: str):
    tokens = [(at, at + 1, 5.0 - at) for at in range(len(text))]
    assert token_heat_map(text, tokens, (0, 2)).startswith(PNG)
    assert token_heat_map(text, tokens, None) == token_heat_map(text, tokens, (0, 0))


def test_the_colour_of_a_token_follows_its_log_odds():
    calm, alarmed = (token_heat_map("Paris", [(0, 5, odds)], None) for odds in (-4.0, 4.0))
    assert mean_colour(calm)[2] > mean_colour(calm)[0]  # blue
    assert mean_colour(alarmed)[0] > mean_colour(alarmed)[2]  # red


def mean_colour(png: bytes) -> np.ndarray:
    import io

    from matplotlib.image import imread

    return imread(io.BytesIO(png), format="png")[..., :3].reshape(-1, 3).mean(axis=0)


def test_the_curve_is_a_picture():
    losses, risks = [0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]
    assert picture(losses, risks, 0.25).startswith(PNG)
    assert picture(losses, risks, 0.05).startswith(PNG)  # nothing is given at this threshold
    assert picture(losses, risks) != picture(losses, risks, 0.25)
