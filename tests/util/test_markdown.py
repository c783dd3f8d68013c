"""Text of models stays text."""

from hypothesis import given
from hypothesis import strategies as st

from hneurons_eval.util.markdown import marked, picture, quoted, table


@given(st.text())
def test_nothing_in_a_quoted_text_ends_the_quotation(text: str):
    first, *inside, last = quoted(text).split("\n")
    fence = first.removesuffix("text")
    assert set(fence) == {"`"}
    assert last == fence
    assert not any(line.strip().startswith(fence) for line in inside)


def test_terminal_escapes_are_shown_not_sent():
    assert quoted("\x1b[31mred") == "```text\n\\x1b[31mred\n```"


def test_spans_are_marked():
    assert marked("It is Paris.", (6, 11)) == "It is ⟦Paris⟧."
    assert marked("nothing", None) == "nothing"


def test_tables_and_pictures():
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| :--- | ---: |\n| 1 | 2 |"
    assert picture(b"png", "what") == "![what](data:image/png;base64,cG5n)"
