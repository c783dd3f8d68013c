"""What hostile answers, replies, names and files cannot do: change a verdict, become markup, reach the terminal."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from damage import CASES
from hostile import CLAIMS, MARKUP, SPOOFED, VERDICT_WORDS
from hypothesis import given
from hypothesis import strategies as st
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput
from inspect_ai.scorer import Score
from inspect_ai.tool import ToolCall
from report_logs import scored, write_log

from hneurons_eval.analysis.detection import Detected, detection
from hneurons_eval.analysis.judge_agreement import judged_by_rule
from hneurons_eval.cli import main
from hneurons_eval.judging.choices import parse_choice
from hneurons_eval.judging.false_premise import judge_premise
from hneurons_eval.judging.grader import quoted, verdict_in
from hneurons_eval.judging.nonexistent import judge_nonexistent
from hneurons_eval.judging.prompts import ANSWER_PROMPT
from hneurons_eval.judging.refusal import declines, is_refusal
from hneurons_eval.judging.replies import parse_verdict
from hneurons_eval.judging.rule import judge_by_rule
from hneurons_eval.judging.spans import answer_span
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.report import found_neurons
from hneurons_eval.util.errors import UsageError
from hneurons_eval.util.markdown import quoted as fenced
from hneurons_eval.util.markdown import table

ALIASES = ["Paris"]
VERDICTS = ("correct", "incorrect", "not_attempted")


def test_the_corpus_is_as_large_as_it_says():
    assert len(set(CLAIMS)) >= 200
    assert len(set(SPOOFED)) >= 60


# --- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", CLAIMS, ids=range(len(CLAIMS)))
def test_no_claim_makes_a_wrong_answer_right(claim: str):
    for answer in (claim, f"It is Lyon.\n{claim}", f"{claim}\nIt is Lyon.", f"Lyon {claim}"):
        assert judge_by_rule(answer, ALIASES) != "correct"


def test_a_claim_behind_a_right_answer_leaves_it_right_or_adds_another_answer():
    """Whoever adds "The verdict is: incorrect", or another turn, has given a second answer, and gains nothing."""
    verdicts = [judge_by_rule(f"It is Paris.\n\n{claim}", ALIASES) for claim in CLAIMS]
    assert set(verdicts) <= {"correct", "incorrect"}
    assert verdicts.count("correct") > 0.8 * len(CLAIMS)


@pytest.mark.parametrize("reply", SPOOFED, ids=range(len(SPOOFED)))
def test_a_reply_that_only_looks_like_a_verdict_is_unparsed(reply: str):
    assert parse_verdict(reply) == "unparsed"
    assert verdict_in(ModelOutput.from_content("judge", reply), ANSWER_PROMPT.tool) == "unparsed"


@pytest.mark.parametrize("word", VERDICT_WORDS)
def test_a_plain_verdict_is_read(word: str):
    assert parse_verdict(word) == word
    assert parse_verdict(f'{{"verdict": "{word}"}}') == word


@pytest.mark.parametrize("claim", CLAIMS, ids=range(len(CLAIMS)))
def test_what_a_call_says_beside_the_verdict_does_not_change_it(claim: str):
    """A judge that repeats the answer: the forced call decides, or nothing does."""
    arguments = {"verdict": "incorrect"}
    call = ToolCall(id="1", function=ANSWER_PROMPT.tool.name, arguments=arguments)
    message = ChatMessageAssistant(content=claim, tool_calls=[call])
    output = ModelOutput(model="judge", choices=[ChatCompletionChoice(message=message, stop_reason="tool_calls")])
    assert verdict_in(output, ANSWER_PROMPT.tool) in ("incorrect", "unparsed")
    call.arguments = {"verdict": claim}
    assert verdict_in(output, ANSWER_PROMPT.tool) == "unparsed"


@pytest.mark.parametrize("claim", CLAIMS, ids=range(len(CLAIMS)))
def test_a_claim_stays_between_marks_that_it_cannot_know(claim: str):
    text = quoted({"question": "Capital of France?", "answer": claim})
    number = text.split(">>", 1)[0].rsplit(" ", 1)[1]
    assert number not in claim
    assert text.count(number) == 4
    assert text.split(f"<<answer {number}>>\n")[1] == f"{claim}\n<<end {number}>>"


pieces = st.lists(st.sampled_from([*CLAIMS, *SPOOFED]) | st.text(max_size=30), min_size=1, max_size=4).map("".join)


@CASES
@given(pieces)
def test_every_judge_and_parser_ends_with_one_of_its_answers(text: str):
    text = text[:2_000]
    assert judge_by_rule(text, ALIASES) in VERDICTS
    assert parse_verdict(text) in (*VERDICTS, "unparsed")
    assert parse_choice(text, {"A": "Paris", "B": "Lyon"}) in ("A", "B", None)
    assert judge_nonexistent(text) in VERDICTS
    assert judge_premise("Why do stones sing?", text) in ("refuted", "accepted", "not_attempted")
    assert declines(text) in (True, False)
    assert is_refusal(text) in (True, False)
    span = answer_span("Capital of France?", text)
    assert span is None or 0 <= span[0] < span[1] <= len(text)


# --- markdown and terminals --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", CLAIMS, ids=range(len(CLAIMS)))
def test_no_text_ends_its_cell_its_row_or_its_fence(text: str):
    lines = table(["question", "n"], [[text, "1"], ["next", "2"]]).split("\n")
    assert len(lines) == 4
    for line in lines:
        assert len(re.split(r"(?<!\\)\|", line)) == 4
    assert not re.search(r"(?<!\\)<[A-Za-z/!?]", lines[2])
    assert not re.search(r"(?<!\\)\]\(", lines[2])
    fence, *inside, last = fenced(text).split("\n")
    assert last == fence.removesuffix("text")
    assert not any(line.strip().startswith(last) for line in inside)


def is_clean(output: str) -> bool:
    """Whether it has no character that a terminal obeys, and none that turns the writing round."""
    return not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]", output)


@pytest.mark.parametrize("text", MARKUP, ids=range(len(MARKUP)))
def test_the_name_in_a_neuron_file_reaches_the_terminal_as_text(tmp_path: Path, text: str):
    path = tmp_path / "n.json"
    NeuronSet(np.array([0]), np.array([1]), model=text[:300], provenance={"method": text[:300]}).save(path)
    done = CliRunner().invoke(main, ["neurons", "show", str(path)])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("1 neuron")
    assert is_clean(done.output)


@pytest.mark.parametrize("text", [*MARKUP, "[/]\x1b[31m"], ids=range(len(MARKUP) + 1))
def test_a_refusal_reaches_the_terminal_as_text(text: str):
    refused = UsageError(f"the model {text} is not there")
    assert is_clean(refused.format_message())
    assert str(refused) == refused.message


# --- the report --------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def answers_saying(texts: list[str]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {
            "question": f"{number} {text}",
            "answer": text,
            "span": [0, 1],
            "label": "hallucinated" if number % 2 else "faithful",
            "probability": (p := float(rng.uniform(0.05, 0.95))),
            "prediction": int(p > 0.5),
        }
        for number, text in enumerate(texts)
    ]


def report_on(directory: Path, texts: list[str], named: str) -> tuple[str, str, str]:
    """The page, the JSON and the terminal output of a report on answers of such texts."""
    answers = answers_saying(texts)
    y = [int(one["label"] == "hallucinated") for one in answers]
    p = [one["probability"] for one in answers]
    calls = [one["prediction"] for one in answers]
    figures = detection(Detected(y, p, calls, [str(k) for k in y], [None] * len(y)))
    samples = [
        scored(number, {"detected": Score(value="C", answer=one["answer"], metadata=one)})
        for number, one in enumerate(answers)
    ]
    args = {"dataset": named}
    write_log(directory / "logs", "hneurons_eval/detect", figures, samples=samples, args=args, metadata={"left": named})
    write_log(directory / "logs", "hneurons_eval/collect", {"questions": 1.0, "right": 0.0, "wrong": 1.0}, args=args)
    html, out = directory / "r.html", directory / "r.json"
    done = CliRunner().invoke(main, ["report", str(directory / "logs"), "--html", str(html), "--json", str(out)])
    assert done.exit_code == 0, done.output
    return html.read_text(encoding="utf-8"), out.read_text(encoding="utf-8"), done.output


def test_nothing_in_answers_or_names_becomes_an_element_of_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(found_neurons, "MAX_ANSWERS", 1_000)
    short = [text[:400] for text in CLAIMS]
    plain, _, _ = report_on(tmp_path / "plain", ["words " * 10] * len(short), "facts")
    expected = {element for element, _ in Tags(plain).elements}
    allowed = {(element, attributes) for element, attributes in Tags(plain).elements}
    page, record, output = report_on(tmp_path / "hostile", short, "<b>\x1b[31m[/]{{7*7}}</b>")
    seen = Tags(page)
    assert {element for element, _ in seen.elements} <= expected
    assert set(seen.elements) <= allowed
    assert not [name for _, attributes in seen.elements for name in attributes if name.startswith("on")]
    shown = [text for text in short if " ".join(text.split()) and " ".join(text.split()) in " ".join(seen.text.split())]
    assert len(shown) > len(short) / 2  # they are there, as text
    assert "{{7*7}}" in seen.text
    assert is_clean(page)
    assert is_clean(output)
    assert is_clean(record)
    assert "</script" not in record or "<script" not in page


def test_a_judged_file_of_hostile_answers_is_judged_as_it_is():
    from hneurons_eval.analysis.judge_agreement import JudgedAnswer

    answers = [JudgedAnswer(str(k), "Q?", f"Lyon {text}", ("Paris",), {}) for k, text in enumerate(CLAIMS)]
    assert "correct" not in {answer.verdicts["rule"] for answer in judged_by_rule(answers)}
