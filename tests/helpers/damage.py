"""Damage that may befall a file, and what a reader owes whoever gives it such a file.

A reader refuses with its own exception, in one line that names the file, or gives what was there before; of a text file
that nothing seals it may give something else, as long as that is well-formed. It never raises anything else and never
takes long.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

CASES = settings(
    max_examples=max(200, settings().max_examples),  # pytest --hypothesis-profile nightly: 100,000
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MAX_SECONDS = 10.0
"""A reader that takes longer over a small file hangs."""


@dataclass(frozen=True)
class Reader:
    """Something that reads a file.

    Attributes:
        write: the undamaged file (or the one file to damage) into a directory; its path.
        read: what is read from that path, in a form that can be compared.
        refuses: the exceptions that it may raise.
        sealed: whether all damage must be seen.
        check: raises where what was read is not well-formed.
        names_file: whether the message names the file.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    refuses: type[Exception] | tuple[type[Exception], ...]
    sealed: bool = False
    check: Callable[[Any], None] = lambda _: None
    names_file: bool = True

    def try_out(self, path: Path, original: Any, *, changed_by_hand: bool = False) -> None:
        """Read what lies there; fails where the reader does not do what it owes."""
        begin = time.process_time()  # a busy machine does not count
        try:
            found = self.read(path)
        except self.refuses as error:
            told(error, *((path.name, path.parent.name) if self.names_file else ()))
        else:
            self.check(found)
            if self.sealed and not changed_by_hand:
                assert found == original, "another content was taken for the original"
        assert time.process_time() - begin < MAX_SECONDS


def told(error: Exception, *names: str) -> None:
    """The message of a refusal says something, and one of the names."""
    said = str(error)
    assert said.strip()
    assert not names or any(name in said for name in names), said


@dataclass(frozen=True)
class Damage:
    """One thing that happens to a file's bytes."""

    kind: Literal["cut", "flip", "erase", "insert", "repeat", "swap", "overwrite"]
    place: int
    size: int
    content: bytes

    def __call__(self, data: bytes) -> bytes:
        place = self.place % (len(data) + 1)
        end = min(len(data), place + self.size)
        match self.kind:
            case "cut":
                return data[:place]
            case "flip":
                return (
                    data[:place]
                    + bytes(byte ^ (1 << self.size % 8) for byte in data[place : place + 1])
                    + data[place + 1 :]
                )
            case "erase":
                return data[:place] + bytes(end - place) + data[end:]
            case "insert":
                return data[:place] + self.content + data[place:]
            case "repeat":
                return data[:end] + data[place:]
            case "swap":
                return data[end:] + data[:end]
            case "overwrite":
                return data[:place] + self.content + data[place + len(self.content) :]


MEAN_BYTES = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r\n", b'"', b"\\", b",", b"{}", b"[" * 3000, b"[" * 200_000,
    b"NaN", b"1e999", b"-1", b"9" * 5000, b"\\ud800", b"null", b"\xe2\x80\xa8", b"=cmd()", b";" * 40,
    (10 * 2**30).to_bytes(8, "little"), b"\x1b[31m",
]  # fmt: skip

damages = st.lists(
    st.builds(
        Damage,
        st.sampled_from(["cut", "flip", "flip", "erase", "insert", "repeat", "swap", "overwrite"]),
        st.integers(0, 2**20),
        st.integers(0, 64),
        st.sampled_from(MEAN_BYTES) | st.binary(max_size=12),
    ),
    min_size=1,
    max_size=3,
)


def damaged(data: bytes, happened: list[Damage]) -> bytes:
    for one in happened:
        data = one(data)
    return data


# --- values that do not belong there -----------------------------------------------------------------------

MEAN_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**400, 0.5, -0.0, float("nan"), float("inf"), float("-inf"), "",
    " ", "x", "\x00", "\ud800", "../../etc/passwd", "x" * 5000, "NaN", "[1", '["a", 1]', "{", [], [[]], [None],
    [1, "2"], ["a", "a"], {}, {"a": 1}, {"": {}}, [[[[[[]]]]]], {"label": ["A"], "text": []},
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a JSON value."""
    yield at
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*at, name))
    elif isinstance(value, list):
        for number in range(min(len(value), 3)):
            yield from places(value[number], (*at, number))


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """A JSON value with another one in a place; `...` takes it out."""
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(at) == 1 and new is ...:
        del copy[at[0]]
    else:
        copy[at[0]] = replaced(copy[at[0]], at[1:], new)
    return copy


@st.composite
def changed(draw: st.DrawFn, record: Any) -> Any:
    """A JSON value with something of another kind in one place or two."""
    for _ in range(draw(st.integers(1, 2))):
        where = draw(st.sampled_from(sorted(places(record), key=repr)))
        new = draw(st.sampled_from([..., *MEAN_VALUES]) | anything)
        record = replaced(record, where, None if new is ... and not where else new)
    return record


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")
