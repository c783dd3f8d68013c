"""What programs send one another: specs in requests, packed numbers, logs of earlier stages; malformed in every way."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from damage import CASES, MEAN_VALUES, Damage, anything, changed, damaged, damages, told
from hypothesis import given
from hypothesis import strategies as st
from inspect_ai.log import read_eval_log
from inspect_ai.scorer import Score
from report_logs import scored, write_log

from hneurons_eval.artifacts.logs import read_stage
from hneurons_eval.engine.options import CaptureSpec
from hneurons_eval.engine.risk import RiskSpec
from hneurons_eval.util.errors import UsageError
from hneurons_eval.util.packing import pack, unpack
from hneurons_eval.vllm.request_extras import RequestExtras

RISK = {"probe": "directory", "span": "rule", "question": "Q?", "response": "It is Paris."}
CAPTURE = {"span": [0, 5], "reduce": "max", "precision": "float16", "question": "Q?", "response": "Paris"}
EXTRAS = {
    "neurons": [1, 5], "alpha": 0.5, "key": "k", "reduce": "max", "regions": [[[0, 2], [3, 4]]], "keep_from": 3,
    "response_from": 2, "watch": [0],
}  # fmt: skip
SPECS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "risk": (RISK, RiskSpec.parse),
    "capture": (CAPTURE, CaptureSpec.parse),
    "extras": (EXTRAS, lambda value: RequestExtras.from_text(json.dumps(value))),
}


def is_well_formed(spec: Any) -> None:
    """Of the kinds that whoever uses it expects."""
    if isinstance(spec, RequestExtras):
        assert all(type(place) is int for place in (*spec.neurons, *spec.watch))
        return
    assert isinstance(spec.response, str | None)
    assert isinstance(spec.question, str | None)
    if spec.span not in ("rule", "response"):
        assert all(type(edge) is int for edge in spec.span)


@pytest.mark.parametrize("name", SPECS)
def test_a_malformed_spec_is_refused_with_a_sentence_and_nothing_else(name: str):
    whole, parse = SPECS[name]
    is_well_formed(parse(whole))

    @CASES
    @given(changed(whole) | anything | st.sampled_from(MEAN_VALUES))
    def whatever_is_sent(value: Any) -> None:
        try:
            spec = parse(value)
        except ValueError as error:
            told(error)
        else:
            is_well_formed(spec)

    whatever_is_sent()


@CASES
@given(damages)
def test_damaged_extras_are_refused_with_a_sentence_and_nothing_else(happened: list[Damage]):
    text = damaged(json.dumps(EXTRAS).encode(), happened).decode(errors="replace")
    try:
        is_well_formed(RequestExtras.from_text(text))
    except ValueError as error:
        told(error)


@CASES
@given(damages)
def test_damaged_numbers_are_refused_or_are_numbers(happened: list[Damage]):
    text = damaged(pack(np.arange(6.0)).encode(), happened).decode(errors="replace")
    try:
        found = unpack(text)
    except ValueError as error:
        told(error)
    else:
        assert found.dtype == np.float64
        assert found.ndim == 1


def test_packed_numbers_come_back():
    np.testing.assert_array_equal(unpack(pack(np.array([0.5, -2.0, 1024.0]))), [0.5, -2.0, 1024.0])


def test_a_damaged_log_is_refused_or_read_as_it_was(tmp_path: Path):
    written = write_log(
        tmp_path, "hneurons_eval/capture", {"faithful": 1.0},
        samples=[scored(k, {"captured": Score(value="C", answer=f"Paris {k}")}) for k in range(3)],
    )  # fmt: skip
    content = written.read_bytes()
    path = tmp_path / "log.eval"
    path.write_bytes(content)

    def texts() -> list[Any]:
        log = read_stage(str(path), "capture", "features")
        return [(sample.id, (sample.scores or {})["captured"].answer) for sample in log.samples or []]

    original = texts()
    assert len(original) == 3

    @CASES
    @given(damages)
    def whatever_happens(happened: list[Damage]) -> None:
        path.write_bytes(damaged(content, happened))
        try:
            found = texts()
        except UsageError as error:
            told(error, "log.eval")
        else:
            assert found == original

    whatever_happens()


def test_a_log_with_one_wrong_bit_is_refused_even_where_it_can_still_be_read(tmp_path: Path):
    written = write_log(
        tmp_path, "hneurons_eval/capture", {"faithful": 1.0},
        samples=[scored(k, {"captured": Score(value="C", answer=f"Paris {k}")}) for k in range(3)],
    )  # fmt: skip
    content = written.read_bytes()
    with ZipFile(written) as archive:
        part = next(one for one in archive.infolist() if one.filename.startswith("samples/"))
    readable = 0
    for place in range(part.header_offset + 100, part.header_offset + part.compress_size):
        written.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with suppress(Exception):
            readable += read_eval_log(str(written)).status == "success"
        with pytest.raises(UsageError, match=r"damaged|not an Inspect log"):
            read_stage(str(written), "capture", "features")
    assert readable  # some of it Inspect itself would have taken
