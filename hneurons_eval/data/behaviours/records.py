"""A row of a public schema -> a record of the behaviour suite; pure functions, no files.

A row that breaks its schema (a column that is missing, a value of the wrong kind) is an error. A row that keeps it
and still cannot be asked or judged (an empty cell, an answer key that fits no option) is `Unusable`: the loaders
leave it out and count the reason.
"""

import ast
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hneurons_eval.data.questions.records import QuestionSetError, normalise_question, unique_aliases

FALSEQA_SCHEMA = (
    'columns "question", "label" (1 for a false premise, 0 for a true one) and "answer" (one text or a list), as in '
    'FalseQA; "id", "topic" and "pair" are optional'
)
FAITHEVAL_SCHEMA = (
    'columns "question", "context", "choices" ({"label": [...], "text": [...]}) and "answerKey" (what the context '
    'supports), as in FaithEval; "id", "topic" and "true_key" are optional'
)
SYCOPHANCY_SCHEMA = (
    'columns "prompt", "base" and "metadata", as in are_you_sure.jsonl of sycophancy-eval, or "question" with either '
    '"aliases" (open) or "choices" and "answerKey" (choice); "id", "kind" and "topic" are optional'
)
TRUTHFULQA_SCHEMA = (
    'columns "Question", "Best Answer", "Correct Answers" and "Incorrect Answers" (";" between answers), as in '
    'TruthfulQA.csv, the same in small letters with lists ("best_answer", ...), or "question", "mc1_targets" and '
    '"mc2_targets", as on the Hub'
)
FORBIDDEN_SCHEMA = (
    'columns "question" and "content_policy_name", as in forbidden_question_set; "content_policy_id" and "q_id" are '
    "optional"
)
TEMPLATE_SCHEMA = 'a column "prompt", as in in-the-wild-jailbreak-prompts; "jailbreak" (true or false) is optional'


class Unusable(Exception):
    """A row that is left out; its text is the reason under which such rows are counted."""


# --- what a set is made of -------------------------------------------------------------------------------


@dataclass(frozen=True)
class FalsePremiseQuestion:
    """A question whose premise is false, or true.

    Attributes:
        id: unique in its set, the same in every run.
        question: as it is asked.
        false_premise: FalseQA's label 1.
        answers: refutations of a false premise, or answers to a question whose premise is true; may be empty.
        topic: the group inside the set.
        pair: the same for a false premise and its true twin (bundled set).
    """

    id: str
    question: str
    false_premise: bool
    answers: tuple[str, ...]
    topic: str | None = None
    pair: str | None = None


@dataclass(frozen=True)
class CounterfactualQuestion:
    """A multiple-choice question and a passage that states something false.

    Attributes:
        id: unique in its set, the same in every run.
        question: as it is asked.
        context: the passage.
        choices: options by label; labels are letters.
        context_key: the label that the passage supports: choosing it is compliance.
        true_key: the label that is right in the world, where the set says so.
        topic: the group inside the set.
    """

    id: str
    question: str
    context: str
    choices: Mapping[str, str] = field(hash=False)
    context_key: str
    true_key: str | None = None
    topic: str | None = None


@dataclass(frozen=True)
class SycophancyQuestion:
    """A question that is asked, doubted ("Are you sure?") and asked again.

    Attributes:
        id: unique in its set, the same in every run.
        kind: `open` (judged by `aliases`) or `choice` (judged by `key`).
        question: without options or instructions.
        source: the sub-dataset of sycophancy-eval, or the topic.
        aliases: accepted answers of an open question, the canonical one first.
        choices: options of a multiple-choice question by label; labels are letters.
        key: the right label.
        prompt: the first turn in the words of the set, options and instructions included; None where it has none.
        reasoning: whether the paper lets the model think step by step before it chooses.
    """

    id: str
    kind: Literal["open", "choice"]
    question: str
    source: str
    aliases: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict, hash=False)
    key: str | None = None
    prompt: str | None = None
    reasoning: bool = False


@dataclass(frozen=True)
class TruthfulChoices:
    """Answers whose log-likelihoods are compared.

    Attributes:
        texts: the answers.
        true: whether each is true; at least one is, and at least one is not.
    """

    texts: tuple[str, ...]
    true: tuple[bool, ...]


@dataclass(frozen=True)
class TruthfulQuestion:
    """A question that people often answer wrongly (Lin et al. 2021, arXiv 2109.07958).

    Attributes:
        id: unique in its set, the same in every run.
        question: as it is asked.
        best: the best true answer.
        correct: true answers, the best one among them.
        incorrect: false answers.
        mc1: one true answer among false ones: is it the likeliest?
        mc2: all answers: how much probability do the true ones have?
        category: the group inside the set.
        adversarial: whether the question was kept because a model failed on it; None where the set does not say.
    """

    id: str
    question: str
    best: str
    correct: tuple[str, ...]
    incorrect: tuple[str, ...]
    mc1: TruthfulChoices
    mc2: TruthfulChoices
    category: str | None = None
    adversarial: bool | None = None


@dataclass(frozen=True)
class ForbiddenQuestion:
    """A question that a model should not answer, and the policy that forbids it."""

    id: str
    question: str
    category: str


@dataclass(frozen=True)
class JailbreakTemplate:
    """A prompt that was written to make models answer forbidden questions."""

    id: str
    text: str


@dataclass(frozen=True)
class JailbreakPrompt:
    """A forbidden question inside a jailbreak template.

    Attributes:
        id: of the question and of the template.
        question: the forbidden question alone, for the judge.
        category: the policy that forbids it.
        template_id: a hash of the template.
        prompt: what the model is given.
    """

    id: str
    question: str
    category: str
    template_id: str
    prompt: str


# --- reading a row ---------------------------------------------------------------------------------------


@dataclass
class Row:
    """One record, where it stands, and what was noticed in reading it.

    Attributes:
        values: the columns.
        where: "row 3 of file.csv", for messages.
        schema: what was expected, for messages.
        notes: what was mended or is odd; counted, where the row is kept.
    """

    values: Mapping[str, Any]
    where: str
    schema: str
    notes: list[str] = field(default_factory=list)

    def value(self, *columns: str) -> Any:
        """What stands in the first of the columns that the row has.

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
            QuestionSetError: it has none of them, or something else than text in it.
            Unusable: the cell is empty.
        """
        value = self.value(*columns)
        column = next(column for column in columns if column in self.values)
        if is_empty(value):
            raise Unusable(f'nothing in "{column}"')
        if not isinstance(value, str):
            raise self.wrong_kind(value, column, "text")
        return value.strip()

    def line(self, *columns: str) -> str:
        """`text` on one line, single spaces between words."""
        return " ".join(self.text(*columns).split())

    def optional(self, *columns: str) -> str | None:
        """The first of the columns that is filled, as text."""
        value = next((self.values[c] for c in columns if not is_empty(self.values.get(c))), None)
        return None if value is None else " ".join(str(value).split())

    def error(self, found: str) -> QuestionSetError:
        """An error about this row."""
        return QuestionSetError(f"{self.where} {found}.")

    def wrong_kind(self, value: object, column: str, expected: str) -> QuestionSetError:
        """An error about a value that is not what its column holds."""
        return self.error(f'has a {type(value).__name__} in "{column}": expected {expected}; mend the row or drop it')


def is_empty(value: object) -> bool:
    """Whether a cell holds nothing: None, NaN, white space, an empty list."""
    return value is None or value != value or (isinstance(value, str) and not value.strip()) or value == []


def content_id(*parts: str) -> str:
    """The id of a record that came without one: a hash of its content, to the letter."""
    return "q-" + hashlib.sha256("\x1f".join(parts).encode(errors="surrogatepass")).hexdigest()[:16]


def _structure(value: object) -> object:
    """A cell that carries JSON (as CSV does), read; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def text_list(value: object) -> list[str] | None:
    """A list of texts, one text, or either inside a string (JSON, or the Python list that FalseQA's CSV holds).

    Returns:
        The texts that are not blank; None where the value is something else.
    """
    if is_empty(value):
        return []
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return [value.strip()]
        read = _structure(value)
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
    """0 and 1, true and false, as numbers, words or truth values; None for anything else."""
    return {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}.get(
        str(value).strip().lower()
    )


# --- options ---------------------------------------------------------------------------------------------


def read_options(row: Row, value: object, column: str) -> tuple[list[str], list[str]]:
    """The labels and texts of a multiple-choice question.

    Args:
        row: for messages.
        value: `{"label": [...], "text": [...]}`, `[{"label": ..., "text": ...}, ...]`, `{label: text}`, or one of
            these as JSON.
        column: for messages.

    Raises:
        QuestionSetError: something else, or not as many labels as texts.
        Unusable: an option without text, or two that say the same.
    """
    expected = 'labels and texts, {"label": ["A", "B"], "text": ["...", "..."]}'
    value = _structure(value)
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
    """A label or answer key as text: a number without its fraction, a single letter as a capital, no brackets."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    text = str(label).strip().strip("().").strip()
    return text.upper() if len(text) == 1 else text


def letter_choices(labels: Sequence[str], texts: Sequence[str], key: str) -> tuple[dict[str, str], str]:
    """Options under letters, and the letter of the answer key.

    Letters stay as they are, in their order. Other labels become A, B, C, ... in the order of the options, and the
    key goes with the option that it names. A key that names none is still plain in one case: it is a letter, and the
    labels are consecutive numbers from 0 or 1, so that B is the second option. (A number beside letters is not: it
    may count from 0 or from 1.)

    Args:
        labels: of the options, as `read_label` gives them.
        texts: the options.
        key: the answer key, as `read_label` gives it.

    Raises:
        Unusable: fewer than two options or more than letters, a label that stands twice, a key that fits none.
    """
    if not 2 <= len(labels) <= 26:
        raise Unusable("fewer than two options, or more than 26")
    if len(set(labels)) < len(labels):
        raise Unusable("labels that stand twice")
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


def _choice(row: Row, choices: object, column: str, key_column: str, key: object) -> tuple[dict[str, str], str]:
    labels, texts = read_options(row, choices, column)
    if is_empty(key):
        raise Unusable(f'nothing in "{key_column}"')
    if isinstance(key, bool) or not isinstance(key, str | int | float):
        raise row.wrong_kind(key, key_column, "the label of an option")
    lettered, letter = letter_choices(labels, texts, read_label(key))
    if list(lettered) != labels:
        row.notes.append("labels turned into letters")
    return lettered, letter


# --- the schemas -----------------------------------------------------------------------------------------


def false_premise_question(row: Row) -> FalsePremiseQuestion:
    """A row of FalseQA's CSV (question, answer, label), or of the bundled set."""
    question = row.line("question")
    label = row.value("label")
    false_premise = read_flag(label)
    if false_premise is None:
        raise row.error(
            f'has {label!r} in "label": expected 1 for a false premise or 0 for a true one; mend the row or drop it'
        )
    answers = text_list(row.value("answer"))
    if answers is None:
        raise row.wrong_kind(row.value("answer"), "answer", "a text or a list of texts")
    return FalsePremiseQuestion(
        id=row.optional("id") or content_id(normalise_question(question), str(false_premise)),
        question=question,
        false_premise=false_premise,
        answers=unique_aliases(answers),
        topic=row.optional("topic"),
        pair=row.optional("pair"),
    )


def counterfactual_question(row: Row) -> CounterfactualQuestion:
    """A row of FaithEval's counterfactual set, or of the bundled one."""
    question, context = row.line("question"), row.text("context")
    value = row.value("choices")
    choices, key = _choice(row, value, "choices", "answerKey", row.value("answerKey"))
    true_key = None
    if not is_empty(row.values.get("true_key")):
        _, true_key = letter_choices(*read_options(row, value, "choices"), read_label(row.values["true_key"]))
        if true_key == key:
            raise Unusable("contexts that support the true answer")
    return CounterfactualQuestion(
        id=row.optional("id") or content_id(question, context),
        question=question,
        context=context,
        choices=choices,
        context_key=key,
        true_key=true_key,
        topic=row.optional("topic"),
    )


SYCOPHANCY_SOURCES: Mapping[str, tuple[Literal["open", "choice"], bool]] = {
    "trivia_qa": ("open", False),
    "truthful_qa": ("open", False),
    "truthful_qa_mc": ("choice", False),
    "aqua_mc": ("choice", False),
    "mmlu_mc_cot": ("choice", True),
    "math_mc_cot": ("choice", True),
}
"""Sub-datasets of are_you_sure.jsonl: their kind, and whether the paper uses a chain of thought."""


def sycophancy_question(row: Row) -> SycophancyQuestion:
    """A row of sycophancy-eval's are_you_sure.jsonl, or of the bundled set."""
    if "base" in row.values:
        return _sycophancy_eval_question(row)
    question = row.line("question")
    kind = row.optional("kind") or ("choice" if not is_empty(row.values.get("choices")) else "open")
    source = row.optional("topic", "source") or "local"
    if kind == "open":
        aliases = text_list(row.value("aliases", "answer", "answers"))
        if aliases is None:
            raise row.wrong_kind(row.value("aliases", "answer", "answers"), "aliases", "a text or a list of texts")
        return _open_question(row, question, source, aliases, None)
    if kind == "choice":
        choices, key = _choice(row, row.value("choices"), "choices", "answerKey", row.value("answerKey"))
        name = row.optional("id") or content_id(source, question, *choices.values())
        return SycophancyQuestion(name, "choice", question, source, choices=choices, key=key)
    raise row.error(f'has {kind!r} in "kind": expected "open" or "choice"; mend the row or drop it')


def _open_question(
    row: Row, question: str, source: str, aliases: Sequence[str], prompt: str | None
) -> SycophancyQuestion:
    if not aliases:
        raise Unusable("open questions without accepted answers")
    name = row.optional("id") or content_id(source, question)
    return SycophancyQuestion(name, "open", question, source, aliases=unique_aliases(aliases), prompt=prompt)


def _sycophancy_eval_question(row: Row) -> SycophancyQuestion:
    values = _structure(row.values["base"])
    if not isinstance(values, Mapping):
        raise row.wrong_kind(values, "base", "an object with the question and its answers")
    base = Row(values, f"{row.where}, in its base,", row.schema)
    source = base.line("dataset")
    if source not in SYCOPHANCY_SOURCES:
        raise Unusable("sub-datasets that the paper does not use")
    kind, reasoning = SYCOPHANCY_SOURCES[source]
    question, prompt = base.line("question"), _first_turn(row)
    if kind == "open":
        given = [text_list(values.get(column)) for column in ("correct_answer", "answer")]
        if any(answers is None for answers in given):
            raise base.error('has an "answer" that is neither a text nor a list of texts: mend the row or drop it')
        return _open_question(row, question, source, [a for answers in given for a in answers or []], prompt)
    choices, key = _choice(base, _eval_options(base), "answers", "correct_letter", base.value("correct_letter"))
    return SycophancyQuestion(
        id=row.optional("id") or content_id(source, question, *choices.values()),
        kind="choice",
        question=question,
        source=source,
        choices=choices,
        key=key,
        prompt=prompt,
        reasoning=reasoning,
    )


_OPTION = re.compile(r"^[ \t]*\(([A-Z])\)", re.MULTILINE)


def _eval_options(base: Row) -> dict[str, str]:
    """Options of sycophancy-eval: one column a letter, or lines "(A) ..." in `answers`."""
    letters = base.values.get("letters")
    letters = letters if isinstance(letters, str | list) else []
    if letters and all(isinstance(c, str) and isinstance(base.values.get(c), str) for c in letters):
        return {letter: base.values[letter] for letter in letters}
    text = base.text("answers")
    parts = _OPTION.split(text)[1:]
    labels, texts = parts[::2], parts[1::2]
    if not labels:
        raise base.error('has no options in "answers": expected lines like "(A) ..."; mend the row or drop it')
    if len(set(labels)) < len(labels):
        raise Unusable("labels that stand twice")
    return dict(zip(labels, texts, strict=True))


def _first_turn(row: Row) -> str | None:
    """What the person says first; an opening of the assistant's answer that may follow is left out."""
    messages = _structure(row.values.get("prompt"))
    if is_empty(messages):
        return None
    first = messages[0] if isinstance(messages, list) else None
    if not isinstance(first, Mapping) or first.get("type", first.get("role")) not in ("human", "user"):
        raise row.wrong_kind(
            messages, "prompt", 'a list of messages that begins with {"type": "human", "content": ...}'
        )
    return Row(first, f"{row.where}, in its prompt,", row.schema).text("content")


def truthful_question(row: Row) -> TruthfulQuestion:
    """A row of TruthfulQA: its CSV, or either configuration on the Hub.

    Without targets of its own a question's MC1 sets the best answer against the incorrect ones, and MC2 the correct
    ones against the incorrect ones, as `run_probs` in the authors' repository does (sylinrl/TruthfulQA, models.py).
    """
    question = row.line("Question", "question")
    if "mc1_targets" in row.values or "mc2_targets" in row.values:
        mc1, mc2 = _targets(row, "mc1_targets"), _targets(row, "mc2_targets")
        if sum(mc1.true) != 1:
            raise Unusable("MC1 targets without exactly one true answer")
        best = mc1.texts[mc1.true.index(True)]
        correct = tuple(text for text, true in zip(mc2.texts, mc2.true, strict=True) if true)
        incorrect = tuple(text for text, true in zip(mc2.texts, mc2.true, strict=True) if not true)
    else:
        best = row.line("Best Answer", "best_answer")
        correct = _answers(row, "Correct Answers", "correct_answers")
        incorrect = _answers(row, "Incorrect Answers", "incorrect_answers")
        mc1 = TruthfulChoices((best, *incorrect), (True, *(False for _ in incorrect)))
        mc2 = TruthfulChoices((*correct, *incorrect), (*(True for _ in correct), *(False for _ in incorrect)))
    if {text.casefold() for text in correct} & {text.casefold() for text in incorrect}:
        row.notes.append("an answer listed as true and as false")
    kind = (row.optional("Type", "type") or "").lower()
    return TruthfulQuestion(
        id=row.optional("id") or content_id(normalise_question(question)),
        question=question,
        best=best,
        correct=unique_aliases((best, *correct)),
        incorrect=incorrect,
        mc1=mc1,
        mc2=mc2,
        category=row.optional("Category", "category"),
        adversarial=kind == "adversarial" if kind else None,
    )


def _answers(row: Row, *columns: str) -> tuple[str, ...]:
    value = row.value(*columns)
    answers = value.split(";") if isinstance(value, str) and not value.lstrip().startswith("[") else text_list(value)
    if answers is None:
        raise row.wrong_kind(value, columns[0], 'answers with ";" between them, or a list of texts')
    answers = tuple(" ".join(answer.split()) for answer in answers if answer.strip())
    if not answers:
        raise Unusable(f'nothing in "{columns[0]}"')
    return answers


def _targets(row: Row, column: str) -> TruthfulChoices:
    expected = '{"choices": [...], "labels": [1, 0, ...]}, one label a choice'
    value = _structure(row.value(column))
    if not isinstance(value, Mapping) or not {"choices", "labels"} <= value.keys():
        raise row.wrong_kind(value, column, expected)
    texts, labels = value["choices"], value["labels"]
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
        raise row.error(f'has choices and labels in "{column}" that do not match: expected {expected}')
    true = [read_flag(label) for label in labels]
    if None in true or not all(isinstance(text, str) for text in texts):
        raise row.error(f'has a choice that is no text or a label that is neither 0 nor 1 in "{column}"')
    if not any(true) or all(true):
        raise Unusable("targets that are all true or all false")
    return TruthfulChoices(tuple(" ".join(text.split()) for text in texts), tuple(bool(flag) for flag in true))


def forbidden_question(row: Row) -> ForbiddenQuestion:
    """A row of forbidden_question_set (Shen et al. 2024, arXiv 2308.03825)."""
    question, category = row.line("question"), row.line("content_policy_name", "category")
    policy, number = row.optional("content_policy_id"), row.optional("q_id")
    numbered = f"{policy}-{number}" if policy is not None and number is not None else None
    return ForbiddenQuestion(
        row.optional("id") or numbered or content_id(normalise_question(question)), question, category
    )


def jailbreak_template(row: Row) -> JailbreakTemplate:
    """A row of in-the-wild-jailbreak-prompts (Shen et al. 2024, arXiv 2308.03825)."""
    text = row.text("prompt", "template")
    flag = row.values.get("jailbreak")
    if not is_empty(flag):
        jailbreak = read_flag(flag)
        if jailbreak is None:
            raise row.error(f'has {flag!r} in "jailbreak": expected true or false; mend the row or drop it')
        if not jailbreak:
            raise Unusable("prompts that are no jailbreaks")
    return JailbreakTemplate("t-" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16], text)


_SLOT = re.compile(
    r"[\[{<]{1,2}\s*(?:(?:insert|put|place|type|write|enter|paste|your|the|my|first|actual|user)[\s_-]+){0,3}"
    r"(?:prompt|question|request|query)(?:[\s_-]+(?:goes[\s_-]+)?here)?\s*[\]}>]{1,2}",
    re.IGNORECASE,
)


def fill_template(template: str, question: str) -> str:
    """A question in a template: in each of its slots ("[INSERT PROMPT HERE]", "{question}"), else behind it."""
    if _SLOT.search(template):
        return _SLOT.sub(lambda _: question, template)
    return f"{template}\n\n{question}"


def jailbreak_prompt(question: ForbiddenQuestion, template: JailbreakTemplate) -> JailbreakPrompt:
    """A forbidden question inside a template."""
    return JailbreakPrompt(
        id=f"{question.id}/{template.id}",
        question=question.question,
        category=question.category,
        template_id=template.id,
        prompt=fill_template(template.text, question.question),
    )
