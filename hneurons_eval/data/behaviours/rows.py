"""Reading of a row's cells: text, lists, flags, and the options of multiple-choice questions.

A row that breaks its schema (a missing column, a value of the wrong kind) is an error. A row that keeps its schema and
still cannot be asked or judged (an empty cell, an answer key without an option) is `Unusable`: the loaders leave it out
and count the reason.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hneurons_eval.data.files import QuestionSetError
from hneurons_eval.data.questions.records import is_empty


class Unusable(Exception):
    """A row that is left out; the message is the reason in the report."""


@dataclass
class Row:
    """A row of a set.

    Attributes:
        values: by column.
        where: "row 3 of file.csv", for messages.
        schema: the expected columns, for messages.
        notes: corrections and oddities, counted in the report if the row is kept.
    """

    values: Mapping[str, Any]
    where: str
    schema: str
    notes: list[str] = field(default_factory=list)

    def value(self, *columns: str) -> Any:
        """The value in the first of the columns that the row has.

        Raises:
            QuestionSetError: it has none of them.
        """
        column = next((column for column in columns if column in self.values), None)
        if column is None:
            named = " or ".join(f'"{column}"' for column in columns)
            found = ", ".join(map(str, self.values)) or "none"
            raise self.error(f"has no column {named}: found columns {found}; expected {self.schema}")
        return self.values[column]

    def text(self, *columns: str) -> str:
        """The text in the first of the columns that the row has.

        Raises:
            QuestionSetError: it has none of them, or the value is not text.
            Unusable: the cell is empty.
        """
        value = self.value(*columns)
        column = next(column for column in columns if column in self.values)
        if is_empty(value):
            raise Unusable(f'nothing in "{column}"')
        if not isinstance(value, str):
            raise self.wrong_kind(value, column, "text")
        return value.strip()

    def texts(self, *columns: str) -> list[str]:
        """The texts in the first of the columns that the row has, as read by `text_list`.

        Raises:
            QuestionSetError: it has none of them, or the value is neither a text nor a list of texts.
        """
        found = text_list(self.value(*columns))
        if found is None:
            raise self.wrong_kind(self.value(*columns), columns[0], "a text or a list of texts")
        return found

    def line(self, *columns: str) -> str:
        """`text` with single spaces between words."""
        return " ".join(self.text(*columns).split())

    def optional(self, *columns: str) -> str | None:
        """The first of the columns that is not empty, as text; None if all are."""
        value = next((self.values[c] for c in columns if not is_empty(self.values.get(c))), None)
        return None if value is None else " ".join(str(value).split())

    def error(self, found: str) -> QuestionSetError:
        """An error about this row."""
        return QuestionSetError(f"{self.where} {found}.")

    def wrong_kind(self, value: object, column: str, expected: str) -> QuestionSetError:
        """An error about a value of the wrong kind."""
        return self.error(f'has a {type(value).__name__} in "{column}": expected {expected}; mend the row or drop it')


def structured(value: object) -> object:
    """The value of a cell with JSON text (as in CSV); other values unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def text_list(value: object) -> list[str] | None:
    """The texts in a list, a text, or a string with a list (JSON, or a Python list as in FalseQA's CSV).

    Returns:
        The texts that are not blank; None for other values.
    """
    if is_empty(value):
        return []
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return [value.strip()]
        read = structured(value)
        if isinstance(read, str):
            try:
                read = ast.literal_eval(value.strip())
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                return [value.strip()]  # "[sic] ..." is a text
        value = read
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        return None
    return [item.strip() for item in value if item.strip()]


def read_flag(value: object) -> bool | None:
    """The truth value of 0, 1, true or false, as a number, word or bool; None for anything else."""
    return {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}.get(
        str(value).strip().lower()
    )


# --- options ---------------------------------------------------------------------------------------------


def read_options(row: Row, value: object, column: str) -> tuple[list[str], list[str]]:
    """The labels and texts of a multiple-choice question; `row` and `column` are for messages.

    The value is `{"label": [...], "text": [...]}`, `[{"label": ..., "text": ...}, ...]`, `{label: text}`, or one of
    these as JSON.

    Raises:
        QuestionSetError: another value, or different numbers of labels and texts.
        Unusable: an option without text, or two equal ones.
    """
    expected = 'labels and texts, {"label": ["A", "B"], "text": ["...", "..."]}'
    value = structured(value)
    if isinstance(value, Mapping) and {"label", "text"} <= value.keys():
        labels, texts = value["label"], value["text"]
    elif isinstance(value, Mapping):
        labels, texts = list(value.keys()), list(value.values())
    elif isinstance(value, list) and all(isinstance(o, Mapping) and {"label", "text"} <= o.keys() for o in value):
        labels, texts = [o["label"] for o in value], [o["text"] for o in value]
    else:
        raise row.wrong_kind(value, column, expected)
    if not isinstance(labels, list) or not isinstance(texts, list) or len(labels) != len(texts):
        raise row.error(f'has labels and texts in "{column}" that do not match: expected {expected}, one label a text')
    if any(isinstance(label, bool) or not isinstance(label, str | int | float) for label in labels):
        raise row.error(f'has labels in "{column}" that are neither text nor numbers: expected {expected}')
    if not all(isinstance(text, str) for text in texts):
        raise row.error(f'has options in "{column}" that are not text: expected {expected}')
    texts = [" ".join(text.split()) for text in texts]
    if not all(texts):
        raise Unusable("options without text")
    if len({text.casefold() for text in texts}) < len(texts):
        raise Unusable("options that say the same")
    return [read_label(label) for label in labels], texts


def read_label(label: object) -> str:
    """A label or answer key as text: integers without fraction, single letters in upper case, no brackets."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    text = str(label).strip().strip("().").strip()
    return text.upper() if len(text) == 1 else text


def letter_choices(labels: Sequence[str], texts: Sequence[str], key: str) -> tuple[dict[str, str], str]:
    """Options by letter, and the letter of the answer key.

    Letters are kept. Other labels become A, B, C, ... in the order of the options, and the key follows its option. A
    key without an option is clear in one case: it is a letter, and the labels are consecutive numbers from 0 or 1, so
    that B is the second option. (A number beside letters is unclear: it may count from 0 or from 1.) `labels` and `key`
    are from `read_label`.

    Raises:
        Unusable: fewer than 2 or more than 26 options, a repeated label, or a key without an option.
    """
    if not 2 <= len(labels) <= 26:
        raise Unusable("fewer than two options, or more than 26")
    if len(set(labels)) < len(labels):
        raise Unusable("repeated labels")
    letters = [chr(ord("A") + place) for place in range(len(labels))]
    named = list(labels) if all(re.fullmatch("[A-Z]", label) for label in labels) else letters
    numbers = [str(place) for place in range(len(labels) + 1)]
    if key in labels:
        place = labels.index(key)
    elif key in letters and list(labels) in (numbers[:-1], numbers[1:]):
        place = letters.index(key)
    else:
        raise Unusable("answer keys that fit no option")
    return dict(zip(named, texts, strict=True)), named[place]


def read_choice(row: Row, choices: object, column: str, key_column: str) -> tuple[dict[str, str], str]:
    """The options of a row by letter, and the letter of its answer key; see `read_options` and `letter_choices`."""
    key = row.value(key_column)
    labels, texts = read_options(row, choices, column)
    if is_empty(key):
        raise Unusable(f'nothing in "{key_column}"')
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        raise row.wrong_kind(key, key_column, "the label of an option")
    lettered, letter = letter_choices(labels, texts, read_label(key))
    if list(lettered) != labels:
        row.notes.append("labels turned into letters")
    return lettered, letter
