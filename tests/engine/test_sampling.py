"""Tokens follow the distribution, depend on nothing but their own row, and change with its rounding hardly ever."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from hneurons_eval.engine.sampling import SamplingOptions, choose, exponential_noise, noise_key, row_key

BLOCK = 256


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


def keys(count: int, seed: int = 0) -> list[int]:
    return [noise_key(row_key(seed, number, (7, 8)), number % 11) for number in range(count)]


def sampled(logits: Tensor, option: SamplingOptions, own: list[int]) -> list[int]:
    return choose(logits, [option] * len(own), own, [0] * len(own)).tolist()


def noise(key: int, token: int) -> float:
    """SplitMix64 in Python's integers, and the inverse CDF of the exponential distribution."""
    mask = 2**64 - 1
    bits = (key + token * 0x9E3779B97F4A7C15) & mask
    bits = ((bits ^ bits >> 30) * 0xBF58476D1CE4E5B9) & mask
    bits = ((bits ^ bits >> 27) * 0x94D049BB133111EB) & mask
    bits ^= bits >> 31
    return -math.log1p(-min((bits >> 24) * 2.0**-40 + 2.0**-41, 1 - 2.0**-24))


def race(weights: dict[int, float], key: int) -> set[int]:
    """The candidate with the largest ratio of weight to noise; several where rounding decides between them."""
    ratios = {name: weight / noise(key, name) for name, weight in weights.items() if weight > 1e-30}
    return {name for name, ratio in ratios.items() if ratio >= max(ratios.values()) * (1 - 1e-4)}


def expected_tokens(probabilities: list[float], option: SamplingOptions, key: int) -> set[int]:
    """What the race says: one over kept tokens, or one of blocks and then one within the block that won."""
    kept = [token for token, p in enumerate(probabilities) if p > 0]
    in_blocks = option.top_k is None or option.top_k == 0 or option.top_k >= len(probabilities)
    if option.top_p is not None and option.top_p < 1 and len(kept) <= 1024:
        in_blocks = False
    if not in_blocks:
        return race({token: probabilities[token] for token in kept}, key)
    sums = {
        -1 - block: math.fsum(probabilities[block * BLOCK : (block + 1) * BLOCK])
        for block in range(math.ceil(len(probabilities) / BLOCK))
    }
    return set().union(
        *(
            race({token: probabilities[token] for token in kept if token // BLOCK == -1 - name}, key)
            for name in race(sums, key)
        )
    )


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
VOCABULARIES = [12, 3000]


def chi_square_p(tokens: list[int], probabilities: list[float]) -> float:
    """p of Pearson's test; outcomes of which fewer than ten are expected count as one."""
    expected = np.array(probabilities) * len(tokens)
    found = np.bincount(tokens, minlength=len(probabilities))
    assert not found[expected == 0].any()
    rare = expected < 10
    found = np.append(found[~rare], found[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    found, expected = found[expected > 0], expected[expected > 0]
    return 1.0 if len(found) < 2 else float(stats.chisquare(found, expected * found.sum() / expected.sum()).pvalue)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_samples_follow_the_distribution(option: SamplingOptions, vocabulary: int):
    logits = 2 * torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    tokens = sampled(logits, option, keys(20_000))
    assert chi_square_p(tokens, distribution(logits[0].double().tolist(), option)) > 1e-3


def test_a_wrong_distribution_would_be_noticed():
    logits = 2 * torch.randn(1, 3000, generator=torch.Generator().manual_seed(3000))
    tokens = sampled(logits, SamplingOptions(1.0), keys(20_000))
    assert chi_square_p(tokens, distribution(logits[0].double().tolist(), SamplingOptions(1.05))) < 1e-6


@pytest.mark.parametrize("option", OPTIONS, ids=str)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_the_largest_ratio_of_weight_to_noise_wins(option: SamplingOptions, vocabulary: int):
    logits = 2 * torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    probabilities = distribution(logits[0].double().tolist(), option)
    own = keys(100, seed=1)
    for key, token in zip(own, sampled(logits, option, own), strict=True):
        assert token in expected_tokens(probabilities, option, key)


def test_a_nucleus_wider_than_the_first_guess():
    logits = torch.randn(2, 5000, generator=torch.Generator().manual_seed(3)) * 0.01  # nearly uniform
    logits[1, :700] += 9  # a nucleus of some 600 tokens beside it
    option = SamplingOptions(1.0, top_p=0.9)
    sets = [distribution(row, option) for row in logits.double().tolist()]
    assert [sum(p > 0 for p in probabilities) > 1024 for probabilities in sets] == [True, False]
    own, rows = keys(300), [k % 3 // 2 for k in range(300)]
    for key, row, token in zip(own, rows, choose(logits, [option] * 300, own, rows).tolist(), strict=True):
        assert token in expected_tokens(sets[row], option, key)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-20, 20), min_size=1, max_size=30, unique=True),
    st.floats(0.05, 5),
    st.none() | st.integers(0, 40),
    st.none() | st.floats(0.01, 1),
    st.integers(-(2**63), 2**63 - 1),
)
@example([0.0, 1e-295, 1.0, -2.0], 1.0, None, 0.75, 0)
def test_any_distribution(values: list[float], temperature: float, top_k: int | None, top_p: float | None, key: int):
    logits = torch.tensor([values], dtype=torch.float32)
    token = sampled(logits, SamplingOptions(temperature, top_k, top_p), [key])[0]
    # Rounding of a float32 quotient may tip an edge of the nucleus, and equal values may be cut in any order: every
    # side of an edge and every order of equal values is allowed.
    allowed: set[int] = set()
    equal = [k for k in range(len(values)) if sum(abs(values[k] - other) < 1e-5 for other in values) > 1]
    assume(len(equal) < 5)
    for nearby in (None,) if top_p is None else (top_p * (1 - 1e-5), top_p, min(top_p * (1 + 1e-5), 1.0)):
        option = SamplingOptions(temperature, top_k, nearby)
        for order in itertools.permutations(equal):
            ordered = logits[0].double().tolist()
            for place, k in enumerate(order):
                ordered[k] += 1e-9 * place
            allowed |= expected_tokens(distribution(ordered, option), option, key)
    tied = {k for k in range(len(values)) if any(abs(values[k] - values[a]) < 1e-5 for a in allowed)}
    assert token in allowed | tied


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_forbidden_tokens_are_never_drawn(option: SamplingOptions):
    logits = torch.randn(1, 600, generator=torch.Generator().manual_seed(5))
    forbidden = [0, 300, *range(512, 600)]
    logits[0, forbidden] = -math.inf
    assert not set(sampled(logits, option, keys(2000))) & set(forbidden)


@pytest.mark.parametrize("option", [SamplingOptions(1.0), SamplingOptions(0.7, top_p=0.9), SamplingOptions(1.0, 50)])
@pytest.mark.parametrize("spread", [0.01, 3.0], ids=["flat", "peaked"])
def test_rounding_of_the_logits_changes_hardly_a_token(option: SamplingOptions, spread: float):
    generator = torch.Generator().manual_seed(4)
    logits = spread * torch.randn(1, 20_000, generator=generator)
    own = keys(5000)
    expected = sampled(logits, option, own)

    def changed(size: float) -> int:
        rounding = size * (2 * torch.rand(1, 20_000, generator=generator) - 1)
        return sum(a != b for a, b in zip(sampled(logits + rounding, option, own), expected, strict=True))

    # A token changes where the two best are nearer than twice the rounding: with a probability of a few times its size,
    # of logits over the temperature. What counts as kept changes too where the distribution is flat.
    assert changed(1e-5) <= 3
    assert changed(0.5) > 300


@pytest.mark.parametrize("option", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_logits_lose_nothing_more(option: SamplingOptions, dtype: torch.dtype):
    logits = (2 * torch.randn(40, 3000, generator=torch.Generator().manual_seed(12))).to(dtype)
    own = keys(40)
    assert torch.equal(choose(logits, [option] * 40, own), choose(logits.float(), [option] * 40, own))


def test_temperature_zero_takes_the_most_likely():
    logits = torch.randn(20, 100, generator=torch.Generator().manual_seed(6))
    for option in (SamplingOptions(), SamplingOptions(0.0, top_k=3, top_p=0.5)):
        assert torch.equal(choose(logits, [option] * 20, [1] * 20), logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-30, 1e-3])
@pytest.mark.parametrize("more", [{}, {"top_k": 7}, {"top_p": 0.9}], ids=str)
def test_a_temperature_near_zero_takes_the_most_likely(temperature: float, more: dict[str, Any]):
    logits = 30 * torch.randn(4, 2000, generator=torch.Generator().manual_seed(7))
    options = [SamplingOptions(temperature, **more)] * 4
    assert torch.equal(choose(logits, options, keys(4)), logits.argmax(-1))


def test_each_row_has_its_own_options_whoever_is_beside_it():
    logits = 2 * torch.randn(60, 3000, generator=torch.Generator().manual_seed(8))
    options = [*OPTIONS, SamplingOptions()] * 5
    options = options[:60]
    own = keys(60)
    together = choose(logits, options, own)
    alone = torch.cat([choose(logits[k : k + 1], options[k : k + 1], own[k : k + 1]) for k in range(60)])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(9)).tolist()
    shuffled = choose(logits[order], [options[k] for k in order], [own[k] for k in order])
    assert torch.equal(together, alone)
    assert torch.equal(shuffled, together[order])


# --- noise --------------------------------------------------------------------------------------------------


def test_noise_belongs_to_seed_draw_prompt_and_position():
    base = noise_key(row_key(1, 2, (3, 4)), 5)
    assert noise_key(row_key(1, 2, (3, 4)), 5) == base
    others = [
        noise_key(row_key(0, 2, (3, 4)), 5),
        noise_key(row_key(1, 3, (3, 4)), 5),
        noise_key(row_key(1, 2, (4, 3)), 5),
        noise_key(row_key(1, 2, (3, 4, 0)), 5),
        noise_key(row_key(1, 2, (3, 4)), 6),
        noise_key(row_key(2, 1, (3, 4)), 5),
    ]
    assert len({base, *others}) == 7


def test_known_noise_stays_what_it_is():
    # A change here changes every sampled text that was ever logged.
    key = noise_key(row_key(42, 0, (1, 2, 3)), 0)
    assert key == -3712825956022143366
    assert noise(key, 5) == pytest.approx(0.470052594894058, rel=1e-12)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5), st.integers(-200, 200_000))
def test_noise_is_splitmix64_of_key_and_token(own: list[int], token: int):
    found = exponential_noise(torch.tensor(own), torch.tensor([token, token + 1])).double().numpy()
    assert np.isfinite(found).all()
    assert (found > 0).all()
    expected = np.array([[noise(key, token), noise(key, token + 1)] for key in own])
    # The uniform number u has an error of eps / 4 at most, and -log(1 - u) that over 1 - u, beside its own rounding.
    eps = float(np.finfo(np.float32).eps)
    assert (np.abs(found - expected) <= eps * np.exp(expected) + 4 * eps * expected).all()


@given(st.integers(-(2**70), 2**70), st.integers(0, 1000), st.lists(st.integers(0, 2**31 - 1), max_size=5))
def test_a_noise_key_is_a_signed_integer_of_64_bits(seed: int, sample: int, prompt: list[int]):
    key = row_key(seed, sample, prompt)
    assert len(key) == 16
    assert -(2**63) <= noise_key(key, 0) < 2**63


def test_noise_is_exponential_and_independent_between_keys_tokens_and_positions():
    own = torch.tensor([noise_key(row_key(seed, 0, (7,)), k) for seed in range(20) for k in range(50)])
    values = exponential_noise(own, torch.arange(-20, 80)).double().numpy()
    assert stats.kstest(values.ravel(), "expon").pvalue > 1e-3
    uniform = np.exp(-values)
    for a, b in ((uniform[:, :-1], uniform[:, 1:]), (uniform[:-1], uniform[1:]), (uniform[:-50], uniform[50:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / math.sqrt(a.size)


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
