"""Whatever happens to a file, its reader refuses it in a sentence that names it, or reads what was there."""

import json
import struct
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import CASES, Damage, Reader, as_json, changed, damaged, damages
from hypothesis import given
from hypothesis import strategies as st

from hneurons_eval.analysis.calibration import Platt
from hneurons_eval.analysis.judge_agreement import read_judged
from hneurons_eval.artifacts.contribution_shards import Contributions, StoreError, StoreSpec
from hneurons_eval.artifacts.contribution_store import ContributionStore
from hneurons_eval.data.behaviours import load_faitheval, load_falseqa, load_jailbreak, load_sycophancy, load_truthfulqa
from hneurons_eval.data.official import read_official
from hneurons_eval.data.questions import Question, load_questions
from hneurons_eval.data.questions.records import QuestionSetError
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, NeuronSetError
from hneurons_eval.models.weights.patcher import ExportError, _tensors
from hneurons_eval.probe.baseline_classifiers import BaselineError, Baselines
from hneurons_eval.probe.baselines import Compared, Inputs, fit_baselines
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.probe.files import ProbeError
from hneurons_eval.util.files import write_text_atomically

LAYOUT = NeuronLayout((4, 3))


# --- what is written ---------------------------------------------------------------------------------------


def neurons(directory: Path) -> Path:
    chosen = NeuronSet.from_flat([1, 5], LAYOUT, np.array([0.5, 1.25]), "org/model", {"C": 1.5, "folds": [1, 2]})
    chosen.save(directory / "kept.json")
    return directory / "kept.json"


def read_neurons(path: Path) -> Any:
    found = NeuronSet.load(path)
    weights, stability = (None if v is None else v.tolist() for v in (found.weights, found.stability))
    pairs = found.layers.tolist(), found.indices.tolist()
    return pairs, weights, stability, found.widths, found.model, dict(found.provenance)


@cache
def fitted() -> tuple[Probe, Baselines]:
    rng = np.random.default_rng(0)
    X, y = rng.random((30, LAYOUT.total), np.float32), np.arange(30) % 2
    X[:, 2] += y
    probe = Probe(C=50.0).fit(
        X, y, widths=LAYOUT.widths, model="org/model", metadata={"reduce": "mean", "curve": [1.5]}
    )
    probe.set_calibration(Platt(0.5, -0.25))
    selection = {"probe": [Compared(np.array([2]), {"uniform": np.array([[1]])}, np.arange(100))]}
    return probe, fit_baselines(Inputs(X, {"length": y + 0.0}), y, selection, decisions=np.asarray(y - 0.5, np.float64))


def probe_file(name: str) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        fitted()[0].save(directory / "probe")
        return directory / "probe" / name

    return write


def read_probe(path: Path) -> Any:
    found = Probe.load(path.parent)
    parts = (
        found.penalty_,
        found.C_,
        found.threshold_,
        found.threshold_source_,
        (found.calibration_.slope, found.calibration_.offset),
        found.widths,
        found.model,
        found.metadata,
    )
    return parts, found.coef_.tolist(), found.intercept_


def baselines(directory: Path) -> Path:
    fitted()[1].save(directory / "baselines.safetensors")
    return directory / "baselines.safetensors"


def read_baselines(path: Path) -> Any:
    found = Baselines.load(path)
    halves = {f"{name} {number}": half for name, own in found.sets.items() for number, half in enumerate(own)}
    sets = {f"{name} {kind}": one for name, half in halves.items() for kind, one in half.controls.items()}
    sets |= {name: half.chosen for name, half in halves.items()}
    return (
        {name: (one.weights.tolist(), one.intercept) for name, one in found.linear.items()},
        {name: (one.neurons.tolist(), one.weights.tolist(), one.intercepts.tolist()) for name, one in sets.items()},
    )


SPEC = StoreSpec("m" * 8, LAYOUT.widths, ("answer", "other"))
KEYS = ["a" * 64, "b" * 64]


def shard(directory: Path) -> Path:
    store = ContributionStore(directory / "store", SPEC)
    for number, key in enumerate(KEYS):
        values = np.arange(14, dtype=np.float32).reshape(2, 7) + number
        store.add(key, Contributions(values, {"n": number}, {"logprobs": values[0]}))
    store.flush()
    (path,) = (directory / "store").iterdir()
    return path


def read_shard(path: Path) -> Any:
    store = ContributionStore(path.parent, SPEC)
    rows = {key: (store.get(key), about) for key, about in store.index()}
    return {key: (row.values.tolist(), row.extras["logprobs"].tolist(), about) for key, (row, about) in rows.items()}


def text_file(name: str, text: str, **others: str) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        for other, content in {**others, name: text}.items():
            write_text_atomically(directory / other.replace("__", "."), content)
        return directory / name

    return write


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


ANSWER = {
    "question": "Capital of France? Respond with the answer only, without any explanation.",
    "response": "It is Paris.",
    "tokenized_response": ["It", " is", " Paris", "."],
    "answer_tokens": [" Paris"],
}
OFFICIAL = lines({"tc_1": {**ANSWER, "judge": "true"}}, {"tc_2": {**ANSWER, "judge": "false"}})
QIDS = json.dumps({"t": ["tc_1"], "f": ["tc_2"]})
QUESTIONS = [
    {"id": "a", "relation": "r", "question": "Capital of France?", "aliases": ["Paris", "City of Light"]},
    {"id": "b", "relation": "r", "question": "How many?", "answer": 12.5, "exists": True},
    {"id": "c", "question": "Where is Zzyx?", "aliases": [], "exists": False},
]
CSV = 'id,question,answer,relation\n1,"Which, and why?","Paris, ""the"" city",r\n2,Where?,"[""a"", ""b""]",s\n'
FALSEQA = "question,answer,label\nWhy do stones sing?,\"['They do not.', 'No.']\",1\nWhy do birds sing?,To court.,0\n"
FAITHEVAL = {
    "id": "c1", "question": "What do stones do?", "context": "Stones sing.", "answerKey": "A", "true_key": "B",
    "choices": {"label": ["A", "B"], "text": ["sing", "lie still"]},
}  # fmt: skip
SYCOPHANCY = [
    {
        "prompt": [{"type": "human", "content": "Q?"}], "metadata": {},
        "base": {"dataset": "trivia_qa", "question": "Q?", "correct_answer": "Paris", "answer": ["Paris", "paris"]},
    },
    {"question": "Which?", "choices": {"A": "one", "B": "two"}, "answerKey": "B", "topic": "t"},
]  # fmt: skip
TRUTHFUL = [
    {
        "question": "Do stones sing?",
        "mc1_targets": {"choices": ["No", "Yes"], "labels": [1, 0]},
        "mc2_targets": {"choices": ["No", "Never", "Yes"], "labels": [1, 1, 0]},
    }
]
TRUTHFUL_CSV = (
    "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers\nAdversarial,c,Q?,No,No; Never,Yes; So\n"
)
FORBIDDEN = "content_policy_id,content_policy_name,q_id,question\n0,Illegal,0,How?\n0,Illegal,1,Why?\n"
TEMPLATES = 'prompt,jailbreak\n"Do [INSERT PROMPT HERE], now",True\nHello,False\n'
JUDGED = [
    {"q1": {"question": "Q?", "responses": ["Paris", "Lyon"], "judges": ["true", "false"], "ground_truth": ["Paris"]}},
    {"response": "Paris", "aliases": ["Paris"], "label": "correct", "verdicts": {"llm": "incorrect"}},
]


def are_questions(found: list[Question]) -> None:
    assert found
    assert len({question.id for question in found}) == len(found)
    for question in found:
        assert question.question.strip()
        assert all(isinstance(alias, str) and alias for alias in question.aliases)
        assert question.relation is None or isinstance(question.relation, str)


def have_ids(found: list[Any]) -> None:
    assert found
    assert len({record.id for record in found}) == len(found)


def stand_in_their_responses(found: Any) -> None:
    for answer in found.answers:
        assert answer.label in ("faithful", "hallucinated")
        start, end = answer.span or (0, len(answer.response))
        assert 0 <= start <= end <= len(answer.response)


def questions_file(name: str, text: str) -> Reader:
    return Reader(text_file(name, text), lambda path: load_questions(str(path)), QuestionSetError, check=are_questions)


def behaviour_file(name: str, text: str, load: Callable[[str], Any]) -> Reader:
    return Reader(text_file(name, text), lambda path: load(str(path))[0], QuestionSetError, check=have_ids)


def parquet(directory: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"id": "a", "question": "Capital of France?", "aliases": ["Paris"]},
        {"id": "b", "question": "Q?", "aliases": ["x"]},
    ]
    pq.write_table(pa.Table.from_pylist(rows), directory / "set.parquet", write_page_checksum=True)
    return directory / "set.parquet"


def weights(directory: Path) -> Path:
    from safetensors.numpy import save_file

    save_file({"a.weight": np.ones((3, 2), np.float32), "b": np.zeros(4)}, directory / "model.safetensors")
    return directory / "model.safetensors"


READERS: dict[str, Reader] = {
    "neuron set": Reader(neurons, read_neurons, NeuronSetError, sealed=True),
    "probe": Reader(probe_file("probe.json"), read_probe, ProbeError, sealed=True),
    "probe weights": Reader(probe_file("weights.safetensors"), read_probe, ProbeError, sealed=True),
    "baselines": Reader(baselines, read_baselines, BaselineError, sealed=True),
    "contributions": Reader(shard, read_shard, StoreError, sealed=True),
    "official answers": Reader(
        text_file("x_answer_tokens.jsonl", OFFICIAL), read_official, ValueError, check=stand_in_their_responses
    ),
    "official labels": Reader(
        text_file("x_qids.json", QIDS, x_answer_tokens__jsonl=OFFICIAL),
        lambda path: read_official(path.with_name("x_answer_tokens.jsonl"), path),
        ValueError,
        check=stand_in_their_responses,
    ),
    "questions, JSON lines": questions_file("set.jsonl", lines(*QUESTIONS)),
    "questions, JSON": questions_file("set.json", json.dumps({"data": QUESTIONS})),
    "questions, CSV": questions_file("set.csv", CSV),
    "falseqa": behaviour_file("set.csv", FALSEQA, load_falseqa),
    "faitheval": behaviour_file("set.jsonl", lines(FAITHEVAL), load_faitheval),
    "sycophancy": behaviour_file("set.jsonl", lines(*SYCOPHANCY), load_sycophancy),
    "truthfulqa, Hub": behaviour_file("set.jsonl", lines(*TRUTHFUL), load_truthfulqa),
    "truthfulqa, CSV": behaviour_file("set.csv", TRUTHFUL_CSV, load_truthfulqa),
    "forbidden questions": Reader(
        text_file("set.csv", FORBIDDEN, templates__csv=TEMPLATES),
        lambda path: load_jailbreak(str(path), str(path.with_name("templates.csv")))[0],
        QuestionSetError,
        check=have_ids,
    ),
    "jailbreak templates": Reader(
        text_file("set.csv", TEMPLATES, forbidden__csv=FORBIDDEN),
        lambda path: load_jailbreak(str(path.with_name("forbidden.csv")), str(path))[0],
        QuestionSetError,
        check=have_ids,
    ),
    "judged answers": Reader(text_file("set.jsonl", lines(JUDGED[0])), read_judged, ValueError, check=have_ids),
    "labelled answers": Reader(text_file("set.jsonl", lines(JUDGED[1])), read_judged, ValueError, check=have_ids),
    "weight file": Reader(weights, lambda path: list(_tensors(path)), ExportError),
}


@pytest.mark.parametrize("name", READERS)
def test_an_undamaged_file_is_read(tmp_path: Path, name: str):
    reader = READERS[name]
    path = reader.write(tmp_path)
    reader.check(reader.read(path))
    assert reader.read(path) == reader.read(path)


@pytest.mark.parametrize("name", READERS)
def test_damaged_bytes_are_refused_or_do_no_harm(tmp_path: Path, name: str):
    reader = READERS[name]
    path = reader.write(tmp_path)
    content, original = path.read_bytes(), reader.read(path)

    @CASES
    @given(damages)
    def whatever_happens(happened: list[Damage]) -> None:
        path.write_bytes(damaged(content, happened))
        reader.try_out(path, original)

    whatever_happens()


@pytest.mark.parametrize("name", [name for name in READERS if "weight" not in name])
def test_a_file_cut_anywhere_is_refused_or_does_no_harm(tmp_path: Path, name: str):
    reader = READERS[name]
    path = reader.write(tmp_path)
    content, original = path.read_bytes(), reader.read(path)
    step = max(1, len(content) // 120)
    for size in range(0, len(content), step):
        path.write_bytes(content[:size])
        reader.try_out(path, original)


def jsons() -> list[str]:
    return [name for name in READERS if is_json(name)]


def is_json(name: str) -> bool:
    return name in (
        "neuron set", "probe", "official answers", "official labels", "questions, JSON lines", "questions, JSON",
        "faitheval", "sycophancy", "truthfulqa, Hub", "judged answers", "labelled answers",
    )  # fmt: skip


@pytest.mark.parametrize("name", jsons())
def test_values_that_do_not_belong_there_are_refused_or_do_no_harm(tmp_path: Path, name: str):
    reader = READERS[name]
    path = reader.write(tmp_path)
    original = reader.read(path)
    text = path.read_text()
    rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]

    @CASES
    @given(st.data())
    def whatever_is_written(data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(rows) - 1))
        record = data.draw(changed({key: value for key, value in rows[number].items() if key != "sha256"}))
        path.write_bytes(b"\n".join(as_json(record if k == number else row) for k, row in enumerate(rows)))
        reader.try_out(path, original, changed_by_hand=True)

    whatever_is_written()


# --- sizes that are claimed --------------------------------------------------------------------------------


def with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(64)


def claiming(size: int) -> bytes:
    """A safetensors file of some bytes whose header claims so many."""
    return with_header(json.dumps({"coef": {"dtype": "F64", "shape": [size // 8], "data_offsets": [0, size]}}).encode())


HUGE = {
    "a header of 10 GB": struct.pack("<Q", 10 * 2**30) + b"{}" + bytes(64),
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "tensors of 10 GB": claiming(10 * 2**30),
    "tensors of 2^62 bytes": claiming(2**62),
    "deep nesting": with_header(b"[" * 200_000),
    "an offset beyond numbers": with_header(b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}'),
    "nothing": b"",
}


@pytest.mark.parametrize("what", HUGE)
@pytest.mark.parametrize("name", ["probe weights", "baselines", "contributions", "weight file"])
def test_a_claimed_size_is_not_believed(tmp_path: Path, name: str, what: str):
    import hashlib

    reader = READERS[name]
    path = reader.write(tmp_path)
    path.write_bytes(HUGE[what])
    if name == "probe weights":  # as whoever forges the file would
        described = json.loads(path.with_name("probe.json").read_text())
        del described["sha256"]
        described["weights_sha256"] = hashlib.sha256(HUGE[what]).hexdigest()
        path.with_name("probe.json").write_text(json.dumps(described))
    tracemalloc.start()
    try:
        with pytest.raises(reader.refuses, match=path.name):
            reader.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_parquet_file_cut_anywhere_is_refused(tmp_path: Path):
    path = parquet(tmp_path)
    assert [question.id for question in load_questions(str(path))] == ["a", "b"]
    content = path.read_bytes()
    for size in range(0, len(content), 40):
        path.write_bytes(content[:size])
        with pytest.raises(QuestionSetError, match=r"set\.parquet"):
            load_questions(str(path))
