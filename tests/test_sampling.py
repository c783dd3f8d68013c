"""The token drawn is the one the distribution says, and nobody else's."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hneurons_eval.sampling import SamplingOptions, choose, row_key, uniform

ALMOST_ONE = 1 - 2.0**-53


def distribution(logits: list[float], option: SamplingOptions) -> list[float]:
    """Probability of every token, written out: temperature, then top_k, then top_p, then renormalised."""
    scaled = [value / option.temperature for value in logits]
    ranked = sorted(range(len(scaled)), key=lambda token: -scaled[token])
    kept = ranked[: option.top_k or len(ranked)]
    weights = {token: math.exp(scaled[token] - max(scaled)) for token in kept}
    total = math.fsum(weights.values())
    if option.top_p is not None and option.top_p < 1:
        nucleus, held = {}, 0.0
        for token in kept:
            nucleus[token] = weights[token]
            held += weights[token] / total
            if held >= option.top_p:
                break
        weights = nucleus
    total = math.fsum(weights.values())
    return [weights.get(token, 0.0) / total for token in range(len(logits))]


def expected_token(probabilities: list[float], u: float) -> set[int]:
    """The token whose stretch of the cumulative distribution holds u; two where u is on an edge, rounded."""
    result, before = set(), 0.0
    for token, p in enumerate(probabilities):
        if p and before - 1e-9 <= u < before + p + 1e-9:
            result.add(token)
        before += p
    return result


def draw(logits: Tensor, option: SamplingOptions, us: list[float]) -> list[int]:
    return choose(logits.expand(len(us), -1), [option] * len(us), us).tolist()


OPTIONS = [
    SamplingOptions(1.0),
    SamplingOptions(0.3),
    SamplingOptions(2.5),
    SamplingOptions(1.0, top_k=1),
    SamplingOptions(0.7, top_k=5),
    SamplingOptions(1.0, top_k=10_000),
    SamplingOptions(1.0, top_k=0, top_p=1.0),
    SamplingOptions(1.0, top_p=0.5),
    SamplingOptions(1.5, top_p=0.9),
    SamplingOptions(1.0, top_p=1e-6),
    SamplingOptions(1.0, top_k=8, top_p=0.7),
    SamplingOptions(0.5, top_k=3, top_p=0.999),
]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
@pytest.mark.parametrize("vocabulary", [12, 3000])
def test_follows_the_inverse_of_the_cumulative_distribution(option: SamplingOptions, vocabulary: int):
    logits = 2 * torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    probabilities = distribution(logits[0].double().tolist(), option)
    grid = [k / 500 + 1e-5 for k in range(500)]
    tokens = draw(logits, option, grid)
    for u, token in zip(grid, tokens, strict=True):
        assert token in expected_token(probabilities, u)
    for token, p in enumerate(probabilities):
        assert abs(tokens.count(token) / 500 - p) <= 1 / 500 + 1e-9


def test_a_nucleus_wider_than_the_first_guess():
    logits = torch.randn(1, 5000, generator=torch.Generator().manual_seed(3)) * 0.01  # nearly uniform
    option = SamplingOptions(1.0, top_p=0.9)
    probabilities = distribution(logits[0].double().tolist(), option)
    assert sum(p > 0 for p in probabilities) > 4000
    grid = [k / 300 + 1e-5 for k in range(300)]
    for u, token in zip(grid, draw(logits, option, grid), strict=True):
        assert token in expected_token(probabilities, u)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=1, max_size=30, unique=True),
    st.floats(0.05, 5),
    st.none() | st.integers(0, 40),
    st.none() | st.floats(0.01, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_any_distribution(values: list[float], temperature: float, top_k: int | None, top_p: float | None, u: float):
    logits = torch.tensor([values], dtype=torch.float32)
    option = SamplingOptions(temperature, top_k, top_p)
    token = draw(logits, option, [u])[0]
    # What is left of a float32 quotient may tip an edge of the nucleus: compare with both sides of it.
    allowed: set[int] = set()
    for nearby in (None,) if top_p is None else (top_p * (1 - 1e-5), top_p, min(top_p * (1 + 1e-5), 1.0)):
        probabilities = distribution(logits[0].double().tolist(), SamplingOptions(temperature, top_k, nearby))
        allowed |= expected_token(probabilities, u) | expected_token(probabilities, max(u - 1e-6, 0.0))
        allowed |= expected_token(probabilities, min(u + 1e-6, ALMOST_ONE))
    tied = {k for k in range(len(values)) if any(abs(values[k] - values[a]) < 1e-5 for a in allowed)}
    assert token in allowed | tied


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_the_ends_of_the_unit_interval(option: SamplingOptions):
    logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(5))
    logits[0, 0] = logits[0, -1] = -math.inf  # never to be drawn
    probabilities = distribution(logits[0].double().tolist(), option)
    possible = [token for token, p in enumerate(probabilities) if p > 0]
    assert draw(logits, option, [0.0, ALMOST_ONE]) == [possible[0], possible[-1]]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_just_below_one_the_last_possible_token_is_drawn(option: SamplingOptions):
    # Rounding of the total differs from row to row; in some of them u times the total is the total.
    logits = torch.randn(300, 37, generator=torch.Generator().manual_seed(11))
    drawn = choose(logits, [option] * 300, [ALMOST_ONE] * 300).tolist()
    for row, token in zip(logits.double().tolist(), drawn, strict=True):
        assert token == max(k for k, p in enumerate(distribution(row, option)) if p > 0)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_logits_lose_nothing_more(option: SamplingOptions, dtype: torch.dtype):
    logits = (2 * torch.randn(40, 3000, generator=torch.Generator().manual_seed(12))).to(dtype)
    us = [(k * 0.618) % 1 for k in range(40)]
    assert torch.equal(choose(logits, [option] * 40, us), choose(logits.float(), [option] * 40, us))


def test_temperature_zero_takes_the_most_likely():
    logits = torch.randn(20, 100, generator=torch.Generator().manual_seed(6))
    for option in (SamplingOptions(), SamplingOptions(0.0, top_k=3, top_p=0.5)):
        assert torch.equal(choose(logits, [option] * 20, [0.99] * 20), logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-30, 1e-3])
@pytest.mark.parametrize("more", [{}, {"top_k": 7}, {"top_p": 0.9}], ids=str)
def test_a_temperature_near_zero_takes_the_most_likely(temperature: float, more: dict[str, Any]):
    logits = 30 * torch.randn(4, 2000, generator=torch.Generator().manual_seed(7))
    options = [SamplingOptions(temperature, **more)] * 4
    assert torch.equal(choose(logits, options, [0.0, 0.3, 0.7, ALMOST_ONE]), logits.argmax(-1))


def test_each_row_has_its_own_options_whoever_is_beside_it():
    logits = 2 * torch.randn(60, 3000, generator=torch.Generator().manual_seed(8))
    options = [*OPTIONS, SamplingOptions()] * 5
    options = options[:60]
    us = [(k * 0.618) % 1 for k in range(60)]
    together = choose(logits, options, us)
    alone = torch.cat([choose(logits[k : k + 1], options[k : k + 1], us[k : k + 1]) for k in range(60)])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(9)).tolist()
    shuffled = choose(logits[order], [options[k] for k in order], [us[k] for k in order])
    assert torch.equal(together, alone)
    assert torch.equal(shuffled, together[order])


def test_a_uniform_number_belongs_to_seed_draw_prompt_and_position():
    base = uniform(row_key(1, 2, (3, 4)), 5)
    assert uniform(row_key(1, 2, (3, 4)), 5) == base
    others = [
        uniform(row_key(0, 2, (3, 4)), 5),
        uniform(row_key(1, 3, (3, 4)), 5),
        uniform(row_key(1, 2, (4, 3)), 5),
        uniform(row_key(1, 2, (3, 4, 0)), 5),
        uniform(row_key(1, 2, (3, 4)), 6),
        uniform(row_key(2, 1, (3, 4)), 5),
    ]
    assert len({base, *others}) == 7


def test_a_known_uniform_number_stays_what_it_is():
    # A change here changes every sampled text that was ever logged.
    assert uniform(row_key(42, 0, (1, 2, 3)), 0) == 0.798727301621011


@given(st.integers(-(2**70), 2**70), st.integers(0, 1000), st.lists(st.integers(0, 2**31 - 1), max_size=5))
def test_uniform_numbers_are_in_the_unit_interval(seed: int, draw: int, prompt: list[int]):
    key = row_key(seed, draw, prompt)
    assert len(key) == 16
    assert 0 <= uniform(key, 0) < 1


def test_uniform_numbers_are_spread_evenly():
    numbers = sorted(
        uniform(row_key(seed, draw, (7,)), k) for seed in range(10) for draw in range(10) for k in range(20)
    )
    largest_gap = max(abs(value - (k + 0.5) / 2000) for k, value in enumerate(numbers))
    assert largest_gap < 0.0364  # Kolmogorov-Smirnov at 1 %


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        SamplingOptions(**options)
