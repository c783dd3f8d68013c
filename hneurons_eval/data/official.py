"""Answers of the official repository (thunlp/H-Neurons), with answer tokens and labels.

```python
official = read_official(Path("data/answer_tokens.jsonl"))      # labels in data/train_qids.json
official.answers[0].question, official.answers[0].response, official.answers[0].label, official.answers[0].span
```

A line of `*answer_tokens*.jsonl` is `{ID: {"question", "response", "tokenized_response", "answer_tokens"}}`; the
question ends with the paper's suffix. `*qids.json` is `{"t": [ID, ...], "f": [ID, ...]}`: consistently right and
consistently wrong answers. The scripts that write them (`extract_answer_tokens.py`, `sample_balanced_ids.py`) name no
model. The first also writes `"judge": "true"` or `"false"` into each line, the label if there is no file of labels.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from hneurons_eval.data.questions import ANSWER_ONLY

LABELS = {"t": "faithful", "f": "hallucinated"}
_JUDGED = {"true": "t", "false": "f"}
_SHAPE = '{"ID": {"question": "...", "response": "...", "tokenized_response": [...], "answer_tokens": [...]}}'


@dataclass(frozen=True)
class OfficialAnswer:
    """One answer of the official files.

    Attributes:
        id: as in the files.
        prompt: the user's message, with the paper's suffix.
        question: without the suffix.
        response: the model's answer.
        span: characters [start, end) of the authors' answer tokens in the response; None if there are none, or they
            do not occur exactly once.
        label: `faithful` or `hallucinated`.
    """

    id: str
    prompt: str
    question: str
    response: str
    span: tuple[int, int] | None
    label: str


@dataclass(frozen=True)
class OfficialAnswers:
    """The labelled answers of a file, in its order.

    Attributes:
        answers: at least one.
        labels: the file of labels; None if the lines have them.
        without_label: number of answers without a label; they are not among `answers`.
        without_answer: number of labels without an answer.
    """

    answers: tuple[OfficialAnswer, ...]
    labels: Path | None
    without_label: int
    without_answer: int


def find_official(reference: str, labelled: bool = False) -> Path | None:
    """The file of official answers at a path; None if the path is something else.

    Args:
        reference: `*answer_tokens*.jsonl`, or a directory with one such file.
        labelled: whether there is a file of labels; then any .jsonl file is accepted.

    Raises:
        ValueError: a directory with several such files, or with one and a log of `collect`.
    """
    path = Path(reference.removeprefix("file://"))
    if not reference or not path.is_dir():
        named = "answer_tokens" in path.name or labelled
        return path if path.suffix == ".jsonl" and named and path.is_file() else None
    files = sorted(path.glob("*answer_tokens*.jsonl"))
    logs = sorted(path.glob("*_collect_*.eval")) if files else []
    if len(files) + len(logs) > 1:
        names = ", ".join(file.name for file in [*files, *logs][:6])
        raise ValueError(f"{reference} holds several files of answers ({names}); name the one you mean")
    return files[0] if files else None


def find_labels(answers: Path) -> Path | None:
    """The file of labels beside a file of answers, found by its name; None if there is none.

    `X_answer_tokens_train.jsonl` belongs to `X_train_qids.json`, and `X_answer_tokens.jsonl` to `X_qids.json`,
    `X_train_qids.json` or `X_test_qids.json`.

    Raises:
        ValueError: there are several.
    """
    before, mark, after = answers.name.removesuffix(".jsonl").rpartition("answer_tokens")
    part = after.strip("_-.")
    stems = (f"{part}_qids", f"qids_{part}") if part else ("qids", "train_qids", "test_qids")
    found = [file for stem in stems if mark and (file := answers.with_name(f"{before}{stem}.json")).is_file()]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise ValueError(f"{answers} may belong to {names}; say which with labels=FILE")
    return found[0] if found else None


def read_official(answers: Path, labels: Path | None = None) -> OfficialAnswers:
    """The labelled answers of a file of the official repository.

    Args:
        answers: `*answer_tokens*.jsonl`.
        labels: `*qids.json`; by default the file from `find_labels`, else the labels in the lines.

    Raises:
        ValueError: a malformed file (with the line), a repeated id, a label that contradicts the line's own, no
            answers, or none with a label.
        OSError: a file cannot be read.
    """
    if labels is not None and not labels.is_file():
        raise ValueError(f"{labels} does not exist; give the *qids.json of {answers.name}: labels=FILE")
    labels = labels or find_labels(answers)
    lines = _read_answers(answers)
    judged = {id: _JUDGED[line.judge] for id, line in lines.items() if line.judge in _JUDGED}
    given = judged if labels is None else _read_labels(labels)
    for id in judged:
        if given.get(id, judged[id]) != judged[id]:
            raise ValueError(
                f"{answers}, line {lines[id].number}: {id} is judged {judged[id]} there and {given[id]} in {labels}; "
                "the files do not belong together"
            )
    kept = tuple(_answer(id, line, LABELS[given[id]]) for id, line in lines.items() if id in given)
    if not lines:
        raise ValueError(f"{answers} holds no answers; expected lines {_SHAPE}")
    if not kept and labels is None:
        raise ValueError(f"{answers} has no labels and no *_qids.json that its name belongs to; give it: labels=FILE")
    if not kept:
        raise ValueError(
            f"none of the {len(lines)} answers of {answers} is among the {len(given)} labels of {labels}; "
            "give the labels of these answers: labels=FILE"
        )
    return OfficialAnswers(kept, labels, len(lines) - len(kept), len(given.keys() - lines.keys()))


def official_span(response: str, tokens: Sequence[str], answer: Sequence[str]) -> tuple[int, int] | None:
    """Characters [start, end) of the answer tokens in a response, without white space at the edges.

    Args:
        response: the text.
        tokens: all its tokens, in the notation of byte-level BPE ("ĠParis", "Ã©"), of SentencePiece ("▁Paris",
            "<0xC3>"), or decoded one by one (" Paris", "\\ufffd" for a part of a character).
        answer: a contiguous part of `tokens`, in any of these notations.

    Returns:
        None if the tokens do not spell the response, or the answer does not occur exactly once among them.
    """
    written = _without_space(response)
    origin = [k for k, character in enumerate(response) for _ in _without_space(character)]  # of each byte
    for read in _NOTATIONS:
        pieces = [read(token) for token in tokens]
        places = _places(written, pieces)
        if places is None:
            continue
        first = _only_occurrence(list(tokens), list(answer))
        if first is None:
            # Another notation: compare the spelling.
            spelt = {_only_occurrence(pieces, [other(token) for token in answer]) for other in _NOTATIONS} - {None}
            first = spelt.pop() if len(spelt) == 1 else None
        if first is None or first < 0:
            return None
        start, end = places[first][0], places[first + len(answer) - 1][1]
        return (origin[start], origin[end - 1] + 1) if start < end else None
    return None


# --- files -------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    number: int
    question: str
    response: str
    tokens: list[str]
    answer: list[str]
    judge: str | None


def _answer(id: str, line: _Line, label: str) -> OfficialAnswer:
    question = line.question.rstrip().removesuffix(ANSWER_ONLY.strip()).strip() or line.question
    span = official_span(line.response, line.tokens, line.answer)
    return OfficialAnswer(id, line.question, question, line.response, span, label)


def _read_answers(path: Path) -> dict[str, _Line]:
    lines: dict[str, _Line] = {}
    # Split at line feeds only: JSON may hold an unescaped U+2028.
    for number, data in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not data.strip():
            continue
        where = f"{path}, line {number}"
        content = _parsed(data, path, number)
        if not isinstance(content, dict) or len(content) != 1 or not isinstance(next(iter(content.values())), dict):
            found = data.strip()[:80].decode(errors="replace")
            raise ValueError(f"{where} should be an object with one id, {_SHAPE}, found {found!r}")
        ((id, fields),) = content.items()
        if id in lines:
            raise ValueError(f"{where} has the id {id!r} of line {lines[id].number} again; keep one of them")
        _check_text(id, where, "an id")
        lines[id] = _Line(
            number,
            _text(fields, "question", where),
            _text(fields, "response", where),
            _texts(fields.get("tokenized_response", []), where, "tokenized_response"),
            _texts(fields.get("answer_tokens", []), where, "answer_tokens"),
            _text(fields, "judge", where) if "judge" in fields else None,
        )
        if not lines[id].question.strip():
            raise ValueError(f"{where} has an empty question")
    return lines


def _read_labels(path: Path) -> dict[str, str]:
    """`t` or `f` of each id."""
    content = _parsed(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), path, 1)
    expected = 'an object {"t": [ids], "f": [ids]}'
    if not isinstance(content, dict) or content.keys() != LABELS.keys():
        found = f"the keys {', '.join(content) or 'none'}"[:200] if isinstance(content, dict) else _kind(content)
        raise ValueError(f"{path} should be {expected}, found {found}")
    labels: dict[str, str] = {}
    for label in LABELS:
        for id in _texts(content[label], str(path), label):
            if id in labels:
                raise ValueError(f"{path} has the id {id!r} in {labels[id]} and again in {label}; keep one of them")
            labels[id] = label
    return labels


def _parsed(data: bytes, path: Path, line: int) -> Any:
    """JSON without repeated keys; `data` begins at `line` of the file, which errors name."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) < len(items):
            twice = Counter(key for key, _ in items).most_common(1)[0][0]
            raise ValueError(f"the key {twice!r} stands twice")
        return dict(items)

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        line, reason = line + error.lineno - 1, f"{error.msg} at column {error.colno}"
    except UnicodeDecodeError as error:
        line, reason = line + data.count(b"\n", 0, error.start), "not UTF-8"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{path}, line {line} is not the JSON it should be ({reason})")


def _text(fields: Mapping[str, Any], name: str, where: str) -> str:
    if not isinstance(fields.get(name), str):
        found = _kind(fields[name]) if name in fields else f"only {', '.join(fields) or 'nothing'}"[:200]
        raise ValueError(f"{where} should have {name} as a string, found {found}")
    return _check_text(fields[name], where, name)


def _texts(value: Any, where: str, name: str) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"{where} should have {name} as a list of strings, found {_kind(value)}")
    for item in value:
        if not isinstance(item, str):
            raise ValueError(f"{where} should have {name} as a list of strings, found {_kind(item)} in it")
        _check_text(item, where, name)
    return value


def _check_text(text: str, where: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} has half of a surrogate pair in {name}, which is not a text") from error
    return text


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


# --- tokens ------------------------------------------------------------------------------------------

Piece = tuple[bytes | None, ...]
"""The bytes of a token without white space; None for unknown bytes of a character beyond ASCII."""
Notation = Callable[[str], Piece | None]
"""Reads a token in one notation; None if it is not in this notation."""

_SPACE = " \t\n\r\x0b\x0c"


def _without_space(text: str) -> bytes:
    # Tokenizers and decoders add and drop spaces at the edges of tokens.
    return text.encode().translate(None, _SPACE.encode())


def _byte_symbols() -> dict[str, int]:
    """The character for each byte in byte-level BPE (GPT-2, `bytes_to_unicode`)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + k): byte for k, byte in enumerate(hidden)}


_BYTES = _byte_symbols()
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_level(token: str) -> Piece | None:
    if not all(character in _BYTES for character in token):
        return None
    return (bytes(_BYTES[character] for character in token).translate(None, _SPACE.encode()),)


def _sentence_piece(token: str) -> Piece:
    byte = _BYTE_TOKEN.fullmatch(token)
    return (bytes([int(byte[1], 16)]) if byte else _without_space(token.replace("▁", " ")),)


def _plain(token: str) -> Piece:
    return (_without_space(token),)


def _decoded(token: str) -> Piece:
    known = token.split("\ufffd")
    return tuple(part for text in known for part in (None, _without_space(text)))[1:]


_NOTATIONS: tuple[Notation, ...] = (_byte_level, _sentence_piece, _plain, _decoded)


def _places(written: bytes, pieces: Iterable[Piece | None]) -> list[tuple[int, int]] | None:
    """The byte range of each piece in `written`; None if the pieces do not spell it.

    Consecutive pieces of unknown bytes all get the whole range up to the next known bytes.
    """
    places: list[tuple[int, int]] = []
    at, unknown = 0, False  # unknown: there are bytes from `at` on that no known part has claimed
    waiting: list[int] = []
    for number, piece in enumerate(pieces):
        if piece is None:
            return None
        places.append((at, at))
        for part in piece:
            if part is None:
                unknown = True
            elif part:
                start = written.find(part, at + 1) if unknown else at
                if not written.startswith(part, start) or start < 0 or not _beyond_ascii(written, at, start):
                    return None
                for one in waiting:
                    places[one] = (places[one][0], start)
                waiting.clear()
                at, unknown = start + len(part), False
        places[number] = (places[number][0], at)
        if unknown:
            waiting.append(number)
    if unknown:
        for one in waiting:
            places[one] = (places[one][0], len(written))
        return places if at < len(written) and _beyond_ascii(written, at, len(written)) else None
    return places if at == len(written) else None


def _beyond_ascii(written: bytes, start: int, end: int) -> bool:
    return all(byte > 0x7F for byte in written[start:end])


def _only_occurrence(items: Sequence[Any], wanted: Sequence[Any]) -> int | None:
    """The index of `wanted` in `items`; None if it does not occur, -1 if it occurs repeatedly."""
    if not wanted or None in wanted:
        return None
    starts = (k for k, item in enumerate(items) if item == wanted[0] and items[k : k + len(wanted)] == wanted)
    found = list(islice(starts, 2))
    return None if not found else found[0] if len(found) == 1 else -1
