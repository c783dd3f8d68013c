"""What a server lets in, and that nothing stays for which nobody comes."""

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

from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.vllm import admission as gates
from hneurons_eval.vllm import plugin
from hneurons_eval.vllm.admission import AdmissionControl, Entry, NeuronSets, Quota, UnknownNeuronsError
from hneurons_eval.vllm.request_extras import RequestExtras, end, positions, runs
from hneurons_eval.vllm.requests import Gathered

LAYOUT = NeuronLayout((4, 6))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


def kept() -> tuple[NeuronSets, NeuronSet]:
    sets = NeuronSets(LAYOUT)
    neurons = NeuronSet.from_flat([1, 7], LAYOUT)
    sets.add(neurons.digest, b"[1,7]")
    return sets, neurons


# ---- neuron sets ----


def test_a_set_is_found_by_its_digest_as_the_neurons_that_were_uploaded():
    sets, neurons = kept()
    assert sets.flat(neurons.digest) == (1, 7)
    with pytest.raises(UnknownNeuronsError, match="no neurons with the digest abc"):
        sets.flat("abc")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[7,1,", "JSON list"),
        (b'{"layers":[1]}', "list of flat indices"),
        (b"[]", "at least one"),
        (b"[true]", "list of flat indices"),
        (b"[1.5]", "list of flat indices"),
        (b"[10]", "do not fit"),
        (b"[-1]", "not be negative"),
        (b"[1,1]", "listed twice"),
        (b"[99999999999999999999]", "do not fit"),
        (b"[1,8]", "have the digest"),
        (b"[" * 100_000, "JSON list"),
    ],
)
def test_uploads_that_are_no_set_of_this_model_or_another_one_are_refused(body: bytes, message: str):
    sets, neurons = kept()
    with pytest.raises(ValueError, match=message):
        sets.add(neurons.digest, body)
    assert len(sets) == 1


def test_a_set_of_all_neurons_fits_into_the_largest_upload():
    sets = NeuronSets(LAYOUT)
    assert len(json.dumps(list(range(LAYOUT.total)))) <= sets.max_bytes


def test_sets_are_bounded_in_number_and_size_and_those_in_use_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gates, "MAX_SETS", 3)
    sets, neurons = kept()
    for index in range(5):
        sets.add(NeuronSet.from_flat([index], LAYOUT).digest, f"[{index}]".encode())
        sets.flat(neurons.digest)
    assert len(sets) == 3
    monkeypatch.setattr(gates, "MAX_SET_ENTRIES", 4)
    large = NeuronSet.from_flat(range(5), LAYOUT)
    sets.add(large.digest, b"[0,1,2,3,4]")
    assert len(sets) == 1
    assert len(sets.flat(large.digest)) == 5


# ---- what a request may ask ----


def fields_text(**changes: Any) -> str:
    return json.dumps({"key": "k", "regions": [[[0, 2]]]} | changes)


def test_a_digest_is_replaced_by_its_neurons():
    sets, neurons = kept()
    found = AdmissionControl(LAYOUT, 4, sets).fields(json.dumps({"neurons": neurons.digest, "alpha": 0.5}), 3, 4)
    assert found == RequestExtras(neurons=(1, 7), alpha=0.5)
    text = RequestExtras(neurons=(1, 7), watch=(1, 7), key="k", regions=(((0, 1),),), keep_from=1)
    told = text.to_text(neurons=neurons.digest, watch=neurons.digest)
    assert "[1,7]" not in told
    assert AdmissionControl(LAYOUT, 4, sets).fields(told, 1, 1) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (fields_text(neurons=[10]), "neurons has 10, the model has 10"),
        (fields_text(watch=[10], keep_from=1), "watch has 10"),
        (fields_text(regions=[[[0, 4]]]), "reach to position 4 of a prompt of 3"),
        (fields_text(keep_from=4), "keep_from is 4"),
        (fields_text(response_from=4), "response_from is 4"),
        (fields_text(watch=[1]), "give keep_from"),
        ("{", "JSON text"),
    ],
)
def test_what_the_workers_could_not_do_never_reaches_them(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        AdmissionControl(LAYOUT, 4, kept()[0]).fields(text, 3, 1)


def test_several_answers_under_one_key_and_a_great_many_scaled_neurons_are_refused(monkeypatch: pytest.MonkeyPatch):
    gate = AdmissionControl(LAYOUT, 4, kept()[0])
    with pytest.raises(ValueError, match="found n=2; make 2 requests"):
        gate.fields(fields_text(), 3, 2)
    assert gate.fields('{"neurons": [1], "alpha": 0}', 3, 2).scaling
    monkeypatch.setattr(gates, "MAX_SCALED", 1)
    with pytest.raises(ValueError, match="can scale 1 neurons on a server, found 2"):
        gate.fields('{"neurons": [1, 2], "alpha": 0}', 3, 1)


@given(st.dictionaries(st.sampled_from(list(RequestExtras.__dataclass_fields__)), JSON))
def test_whatever_is_sent_is_refused_as_it_should_be_or_is_within_bounds(record: dict[str, Any]):
    try:
        found = AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT)).fields(json.dumps(record), 3, 1)
    except (ValueError, UnknownNeuronsError):
        return
    assert max(found.neurons + found.watch, default=0) < LAYOUT.total
    assert 0 <= found.alpha < float("inf")
    assert not found.key or end(found.regions) <= 3


@given(st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=1, max_size=4), st.integers(0, 20))
def test_memory_is_reckoned_for_all_sums_and_all_tokens_that_can_come(regions: list[set[int]], more: int):
    fields = RequestExtras(key="k", regions=tuple(map(runs, regions)), keep_from=10)
    kinds = {tuple(place in region for region in regions) for place in range(10)} - {(False,) * len(regions)}
    sums = 4 * len(kinds) * LAYOUT.total
    assert AdmissionControl(LAYOUT, 2, NeuronSets(LAYOUT)).bytes_of(fields, 10 + more) == sums + more * (
        2 * LAYOUT.total + 8
    )


def test_the_prefix_cache_is_told_apart_by_neurons_alpha_and_the_callers_own_salt():
    gate = AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT))
    conditions = [(neurons, alpha, own) for neurons in ((1,), (2,)) for alpha in (0.0, 2.0) for own in (None, "a")]
    salts = [gate.salt(RequestExtras(neurons=neurons, alpha=alpha), own) for neurons, alpha, own in conditions]
    assert len(set(salts)) == len(conditions)
    assert gate.salt(RequestExtras(neurons=(1,), alpha=0.0), None) == salts[0]
    assert gate.salt(RequestExtras(neurons=(1,), alpha=1.0), "a") == "a"
    assert gate.salt(RequestExtras(key="k"), None) is None
    # Nobody can name the salt of a condition from outside.
    assert (
        AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT)).salt(RequestExtras(neurons=(1,), alpha=0.0), None) != salts[0]
    )


WANTING = RequestExtras(key="k", regions=(((0, 2),), ((1, 2),)), keep_from=3)


def test_regions_that_are_wanted_come_through_as_they_are():
    gate = AdmissionControl(LAYOUT, 4, NeuronSets(LAYOUT))
    assert gate.regions(b'{"regions": null}', WANTING, 6) is None
    wanted = [(None, ((3, 6),)), (1, ((3, 4), (5, 6))), (0, ())]
    assert gate.regions(json.dumps({"regions": wanted}).encode(), WANTING, 6) == wanted


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([], "a list of 1 to"),
        ([[2, []]], "region 2 is not one of the 2"),
        ([[True, []]], "region True is not one"),
        ([[None, []]], "no tokens"),
        ([[None, [[2, 4]]]], "positions 2 to 3 are wanted, kept apart were 3 to at most 5"),
        ([[None, [[3, 7]]]], "positions 3 to 6 are wanted"),
        ([[0, [[3, 3]]]], "ascending ranges"),
        ([[0]], "number or null"),
        (5, "null or a list"),
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
        ledger = Quota(100, 10)
        await ledger.admit(entry("a", 60))
        with pytest.raises(LookupError, match="its request has not ended"):
            ledger.find("a")
        ledger.ended("a")
        assert ledger.find("a").size == 60
        ledger.leave("a")
        with pytest.raises(LookupError, match="never, or no longer"):
            ledger.find("a")
        ledger.forget("a")
        assert (len(ledger), ledger.bytes) == (0, 0)
        with pytest.raises(LookupError, match="never, or no longer"):
            ledger.find("a")

    run(work())


def test_a_key_in_use_and_what_can_never_fit_are_refused():
    async def work() -> None:
        ledger = Quota(100, 10)
        await ledger.admit(entry("a", 60))
        with pytest.raises(ValueError, match="'a' is in use"):
            await ledger.admit(entry("a", 1))
        with pytest.raises(ValueError, match="could take 101 bytes, the server sets 100 aside"):
            await ledger.admit(entry("b", 101))
        assert (len(ledger), ledger.bytes) == (1, 60)

    run(work())


def test_those_for_which_there_is_no_room_wait_their_turn():
    async def work() -> None:
        ledger = Quota(100, 10)
        order: list[str] = []

        async def come(key: str, size: int) -> None:
            await ledger.admit(entry(key, size))
            order.append(key)

        await come("a", 60)
        waiting = [asyncio.create_task(come(key, size)) for key, size in (("b", 50), ("c", 50), ("d", 1))]
        await asyncio.sleep(0)
        assert order == ["a"]  # although there is room for the last one
        ledger.forget("a")
        await asyncio.gather(*waiting[:2])
        assert order == ["a", "b", "c"]
        assert ledger.bytes == 100
        ledger.forget("c")
        await waiting[2]
        assert ledger.bytes == 51

    run(work())


@pytest.mark.parametrize("granted", [False, True])
def test_one_that_gives_up_waiting_holds_up_nobody(granted: bool):
    async def work() -> None:
        ledger = Quota(100, 10)
        await ledger.admit(entry("a", 60))
        first = asyncio.create_task(ledger.admit(entry("b", 90)))
        second = asyncio.create_task(ledger.admit(entry("c", 40)))
        await asyncio.sleep(0)
        if granted:
            ledger.forget("a")  # it is its turn, but it has not noticed
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        assert len(ledger) == (1 if granted else 2)
        assert ledger.bytes == (40 if granted else 100)

    run(work())


def test_captures_for_which_nobody_comes_expire_and_those_that_run_or_leave_do_not():
    async def work() -> None:
        clock = Clock()
        ledger = Quota(100, 10, clock)
        for key in ("running", "old", "leaving", "new"):
            await ledger.admit(entry(key, 10))
        ledger.ended("old")
        ledger.ended("leaving")
        ledger.leave("leaving")
        clock.now = 9.9
        ledger.ended("new")
        assert ledger.expired() == []
        clock.now = 10.0
        assert ledger.expired() == ["old"]
        assert ledger.expired() == []  # it is leaving already
        with pytest.raises(LookupError):
            ledger.find("old")

    run(work())


# ---- what goes over the wire ----


def test_what_was_gathered_comes_back_as_it_was():
    rng = np.random.default_rng(0)
    values, hidden = rng.random((2, 5), np.float32), rng.random(3, np.float32)
    found = Gathered.from_bytes(Gathered(values[:, ::2], None, None, hidden, None).to_bytes())
    assert (found.values == values[:, ::2]).all()
    assert (found.hidden == hidden).all()
    assert found.logprobs is found.entropies is found.watched is None


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
