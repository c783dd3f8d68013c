"""Admission control and quota of a server, and the plugin."""

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hneurons_eval.engine.requests import Captured
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.vllm import admission, plugin
from hneurons_eval.vllm.admission import AdmissionControl, Entry, NeuronSets, Quota, UnknownNeuronsError
from hneurons_eval.vllm.request_extras import RequestExtras, end, positions, to_ranges
from hneurons_eval.vllm.requests import from_bytes, to_bytes

LAYOUT = NeuronLayout((4, 6))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def uploaded() -> tuple[NeuronSets, NeuronSet]:
    sets = NeuronSets(LAYOUT)
    neurons = NeuronSet.from_flat([1, 7], LAYOUT)
    sets.add(neurons.digest, b"[1,7]")
    return sets, neurons


# ---- neuron sets ----


def test_a_set_is_found_by_its_digest_as_the_neurons_that_were_uploaded():
    sets, neurons = uploaded()
    assert sets.flat(neurons.digest) == (1, 7)
    with pytest.raises(UnknownNeuronsError, match="no neurons with the digest abc"):
        sets.flat("abc")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[7,1,", "neuron set: Invalid JSON"),
        (b'{"layers":[1]}', "valid array"),
        (b"[]", "at least 1 item"),
        (b"[true]", "neuron set.0: Input should be a valid integer"),
        (b"[1.5]", "valid integer"),
        (b"[10]", "do not fit"),
        (b"[-1]", "greater than or equal to 0"),
        (b"[1,1]", "listed twice"),
        (b"[99999999999999999999]", "less than"),
        (b"[1,8]", "have the digest"),
        (b"[" * 100_000, "recursion limit"),
    ],
)
def test_uploads_that_are_no_set_of_this_model_or_another_one_are_refused(body: bytes, message: str):
    sets, neurons = uploaded()
    with pytest.raises(ValueError, match=message):
        sets.add(neurons.digest, body)
    assert len(sets) == 1


def test_a_set_of_all_neurons_fits_into_the_largest_upload():
    sets = NeuronSets(LAYOUT)
    assert len(json.dumps(list(range(LAYOUT.total)))) <= sets.max_bytes


def test_sets_are_bounded_in_number_and_size_and_those_in_use_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "MAX_SETS", 3)
    sets, neurons = uploaded()
    for index in range(5):
        sets.add(NeuronSet.from_flat([index], LAYOUT).digest, f"[{index}]".encode())
        sets.flat(neurons.digest)
    assert len(sets) == 3
    monkeypatch.setattr(admission, "MAX_SET_ENTRIES", 4)
    large = NeuronSet.from_flat(range(5), LAYOUT)
    sets.add(large.digest, b"[0,1,2,3,4]")
    assert len(sets) == 1
    assert len(sets.flat(large.digest)) == 5


# ---- what a request may ask ----


def extras_text(**changes: Any) -> str:
    return json.dumps({"key": "k", "regions": [[[0, 2]]]} | changes)


def test_a_digest_is_replaced_by_its_neurons():
    sets, neurons = uploaded()
    found = AdmissionControl(LAYOUT, 4, sets).extras(json.dumps({"neurons": neurons.digest, "alpha": 0.5}), 3, 4)
    assert found == RequestExtras(neurons=(1, 7), alpha=0.5)
    text = RequestExtras(neurons=(1, 7), watch=(1, 7), key="k", regions=(((0, 1),),), keep_from=1)
    told = text.to_text(neurons=neurons.digest, watch=neurons.digest)
    assert "[1,7]" not in told
    assert AdmissionControl(LAYOUT, 4, sets).extras(told, 1, 1) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (extras_text(neurons=[10]), "neurons has 10, the model has 10"),
        (extras_text(watch=[10], keep_from=1), "watch has 10"),
        (extras_text(regions=[[[0, 4]]]), "reach to position 4 of a prompt of 3"),
        (extras_text(keep_from=4), "keep_from is 4"),
        (extras_text(response_from=4), "response_from is 4"),
        (extras_text(watch=[1]), "give keep_from"),
        ("{", "Invalid JSON"),
    ],
)
def test_what_the_workers_could_not_do_never_reaches_them(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        AdmissionControl(LAYOUT, 4, uploaded()[0]).extras(text, 3, 1)


def test_several_answers_under_one_key_and_a_great_many_scaled_neurons_are_refused(monkeypatch: pytest.MonkeyPatch):
    control = AdmissionControl(LAYOUT, 4, uploaded()[0])
    with pytest.raises(ValueError, match="found n=2; make 2 requests"):
        control.extras(extras_text(), 3, 2)
    assert control.extras('{"neurons": [1], "alpha": 0}', 3, 2).scaling
    monkeypatch.setattr(admission, "MAX_SCALED", 1)
    with pytest.raises(ValueError, match="can scale 1 neurons on a server, found 2"):
        control.extras('{"neurons": [1, 2], "alpha": 0}', 3, 1)


@given(st.dictionaries(st.sampled_from(list(RequestExtras.__dataclass_fields__)), JSON))
def test_whatever_is_sent_is_refused_as_it_should_be_or_is_within_bounds(record: dict[str, Any]):
    try:
        found = AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT)).extras(json.dumps(record), 3, 1)
    except (ValueError, UnknownNeuronsError):
        return
    assert max(found.neurons + found.watch, default=0) < LAYOUT.total
    assert 0 <= found.alpha < float("inf")
    assert not found.key or end(found.regions) <= 3


@given(st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=1, max_size=4), st.integers(0, 20))
def test_memory_is_reckoned_for_all_sums_and_all_tokens_that_can_come(regions: list[set[int]], more: int):
    extras = RequestExtras(key="k", regions=tuple(map(to_ranges, regions)), keep_from=10)
    kinds = {tuple(place in region for region in regions) for place in range(10)} - {(False,) * len(regions)}
    sums = 4 * len(kinds) * LAYOUT.total
    assert AdmissionControl(LAYOUT, 2, NeuronSets(LAYOUT)).worst_case_bytes(extras, 10 + more) == sums + more * (
        2 * LAYOUT.total + 8
    )


def test_the_prefix_cache_is_told_apart_by_neurons_alpha_and_the_callers_own_salt():
    control = AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT))
    conditions = [(neurons, alpha, own) for neurons in ((1,), (2,)) for alpha in (0.0, 2.0) for own in (None, "a")]
    salts = [control.cache_salt(RequestExtras(neurons=neurons, alpha=alpha), own) for neurons, alpha, own in conditions]
    assert len(set(salts)) == len(conditions)
    assert control.cache_salt(RequestExtras(neurons=(1,), alpha=0.0), None) == salts[0]
    assert control.cache_salt(RequestExtras(neurons=(1,), alpha=1.0), "a") == "a"
    assert control.cache_salt(RequestExtras(key="k"), None) is None
    # Nobody can name the salt of a condition from outside.
    other = AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT))
    assert other.cache_salt(RequestExtras(neurons=(1,), alpha=0.0), None) != salts[0]


WANTING = RequestExtras(key="k", regions=(((0, 2),), ((1, 2),)), keep_from=3)


def test_regions_that_are_wanted_come_through_as_they_are():
    control = AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT))
    assert control.regions(b'{"regions": null}', WANTING, 6) is None
    wanted = [(None, ((3, 6),)), (1, ((3, 4), (5, 6))), (0, ())]
    assert control.regions(json.dumps({"regions": wanted}).encode(), WANTING, 6) == wanted


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([], "at least 1 item"),
        ([[2, []]], "region 2 is not one of the 2"),
        ([[True, []]], "body.regions.0.0: Input should be a valid integer"),
        ([[None, []]], "no tokens"),
        ([[None, [[2, 4]]]], "positions 2 to 3 are asked for, kept apart were 3 to at most 5"),
        ([[None, [[3, 7]]]], "positions 3 to 6 are asked for"),
        ([[0, [[3, 3]]]], "ascending ranges"),
        ([[0]], "body.regions.0.1: Field required"),
        (5, "valid array"),
    ],
)
def test_regions_that_there_are_not_are_refused(regions: Any, message: str):
    with pytest.raises(ValueError, match=message):
        AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT)).regions(json.dumps({"regions": regions}).encode(), WANTING, 6)


@given(st.lists(st.tuples(JSON, JSON), max_size=3) | JSON)
def test_whatever_is_wanted_is_refused_as_it_should_be_or_is_within_bounds(value: Any):
    try:
        found = AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT)).regions(
            json.dumps({"regions": value}).encode(), WANTING, 6
        )
    except ValueError:
        return
    for number, kept_apart in found or []:
        assert number in (None, 0, 1)
        assert set(positions(kept_apart)) <= {3, 4, 5}


# ---- how long captures stay ----


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def entry(key: str, size: int) -> Entry:
    return Entry(RequestExtras(key=key, regions=(((0, 1),),)), size, 1)


def test_a_capture_is_found_once_it_has_ended_and_by_one_caller_only():
    async def work() -> None:
        quota = Quota(100, 10)
        await quota.reserve(entry("a", 60))
        with pytest.raises(LookupError, match="its request has not ended"):
            quota.find("a")
        quota.end("a")
        assert quota.find("a").size == 60
        quota.claim("a")
        with pytest.raises(LookupError, match="never, or no longer"):
            quota.find("a")
        quota.release("a")
        assert (len(quota), quota.bytes) == (0, 0)
        with pytest.raises(LookupError, match="never, or no longer"):
            quota.find("a")

    run(work())


def test_a_key_in_use_and_what_can_never_fit_are_refused():
    async def work() -> None:
        quota = Quota(100, 10)
        await quota.reserve(entry("a", 60))
        with pytest.raises(ValueError, match="'a' is in use"):
            await quota.reserve(entry("a", 1))
        with pytest.raises(ValueError, match="could take 101 bytes, the server reserves 100"):
            await quota.reserve(entry("b", 101))
        assert (len(quota), quota.bytes) == (1, 60)

    run(work())


def test_those_for_which_there_is_no_room_wait_their_turn():
    async def work() -> None:
        quota = Quota(100, 10)
        order: list[str] = []

        async def come(key: str, size: int) -> None:
            await quota.reserve(entry(key, size))
            order.append(key)

        await come("a", 60)
        waiting = [asyncio.create_task(come(key, size)) for key, size in (("b", 50), ("c", 50), ("d", 1))]
        await asyncio.sleep(0)
        assert order == ["a"]  # although there is room for the last one
        quota.release("a")
        await asyncio.gather(*waiting[:2])
        assert order == ["a", "b", "c"]
        assert quota.bytes == 100
        quota.release("c")
        await waiting[2]
        assert quota.bytes == 51

    run(work())


@pytest.mark.parametrize("granted", [False, True])
def test_one_that_gives_up_waiting_holds_up_nobody(granted: bool):
    async def work() -> None:
        quota = Quota(100, 10)
        await quota.reserve(entry("a", 60))
        first = asyncio.create_task(quota.reserve(entry("b", 90)))
        second = asyncio.create_task(quota.reserve(entry("c", 40)))
        await asyncio.sleep(0)
        if granted:
            quota.release("a")  # it is its turn, but it has not noticed
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        assert len(quota) == (1 if granted else 2)
        assert quota.bytes == (40 if granted else 100)

    run(work())


def test_captures_for_which_nobody_comes_expire_and_those_that_run_or_leave_do_not():
    async def work() -> None:
        clock = Clock()
        quota = Quota(100, 10, clock)
        for key in ("running", "old", "leaving", "new"):
            await quota.reserve(entry(key, 10))
        quota.end("old")
        quota.end("leaving")
        quota.claim("leaving")
        clock.now = 9.9
        quota.end("new")
        assert quota.claim_expired() == []
        clock.now = 10.0
        assert quota.claim_expired() == ["old"]
        assert quota.claim_expired() == []  # it is leaving already
        with pytest.raises(LookupError):
            quota.find("old")

    run(work())


# ---- what goes over the wire ----


def test_what_was_gathered_comes_back_as_it_was():
    rng = np.random.default_rng(0)
    values, hidden = rng.random((2, 5), np.float32), rng.random(3, np.float32)
    found = from_bytes(to_bytes(Captured(values[:, ::2], None, None, hidden)))
    assert (found.contributions == values[:, ::2]).all()
    assert (found.hidden == hidden).all()
    assert found.logprobs is found.entropies is found.per_token is None


# ---- the plugin ----


@pytest.mark.parametrize(("named", "acts"), [(None, False), ("", False), ("other", False), ("other,hneurons", True)])
def test_the_plugin_changes_engines_only_where_it_is_named(
    named: str | None, acts: bool, monkeypatch: pytest.MonkeyPatch
):
    class EngineArgs:
        enforce_eager, worker_extension_cls = False, ""

        def create_engine_config(self) -> tuple[bool, str]:
            return self.enforce_eager, self.worker_extension_cls

    module = ModuleType("vllm.engine.arg_utils")
    module.EngineArgs = EngineArgs  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("vllm", "vllm.engine"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm.engine.arg_utils", module)
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "to be restored")
    monkeypatch.delenv("VLLM_USE_V2_MODEL_RUNNER")
    if named is None:
        monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    else:
        monkeypatch.setenv("VLLM_PLUGINS", named)
    plugin.register()
    plugin.register()
    assert EngineArgs().create_engine_config() == ((True, plugin.WORKER) if acts else (False, ""))
    assert os.environ.get("VLLM_USE_V2_MODEL_RUNNER") == ("0" if acts else None)
    own = EngineArgs()
    own.worker_extension_cls = "their.Extension"
    assert own.create_engine_config()[1] == "their.Extension"
