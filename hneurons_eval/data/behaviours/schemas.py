"""Conversion of rows in the public schemas to records.

```python
false_premise_question(Row(values, "row 1 of test.csv", FALSEQA_SCHEMA))   # a FalsePremiseQuestion
```

Every conversion raises `QuestionSetError` for a row that breaks its schema, and `Unusable` for one that has to be left
out.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from hneurons_eval.data.behaviours.records import (
    CounterfactualQuestion,
    FalsePremiseQuestion,
    ForbiddenQuestion,
    JailbreakPrompt,
    JailbreakTemplate,
    SycophancyQuestion,
    TruthfulChoices,
    TruthfulQuestion,
)
from hneurons_eval.data.behaviours.rows import (
    Row,
    Unusable,
    letter_choices,
    read_choice,
    read_flag,
    read_label,
    read_options,
    structured,
    text_list,
)
from hneurons_eval.data.questions.records import content_id, is_empty, normalise_question, unique_aliases

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


def false_premise_question(row: Row) -> FalsePremiseQuestion:
    """A row of FalseQA's CSV (question, answer, label), or of the bundled set."""
    question = row.line("question")
    label = row.value("label")
    false_premise = read_flag(label)
    if false_premise is None:
        raise row.error(
            f'has {label!r} in "label": expected 1 for a false premise or 0 for a true one; mend the row or drop it'
        )
    return FalsePremiseQuestion(
        id=row.optional("id") or content_id(normalise_question(question), str(false_premise)),
        question=question,
        false_premise=false_premise,
        answers=unique_aliases(row.texts("answer")),
        topic=row.optional("topic"),
        pair=row.optional("pair"),
    )


def counterfactual_question(row: Row) -> CounterfactualQuestion:
    """A row of FaithEval's counterfactual set, or of the bundled one."""
    question, context = row.line("question"), row.text("context")
    value = row.value("choices")
    choices, key = read_choice(row, value, "choices", "answerKey")
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
"""Kind of each sub-dataset of are_you_sure.jsonl, and whether the paper uses a chain of thought."""


def sycophancy_question(row: Row) -> SycophancyQuestion:
    """A row of sycophancy-eval's are_you_sure.jsonl, or of the bundled set."""
    if "base" in row.values:
        return _sycophancy_eval_question(row)
    question = row.line("question")
    kind = row.optional("kind") or ("choice" if not is_empty(row.values.get("choices")) else "open")
    source = row.optional("topic", "source") or "local"
    if kind == "open":
        return _open_question(row, source, question, row.texts("aliases", "answer", "answers"))
    if kind == "choice":
        choices, key = read_choice(row, row.value("choices"), "choices", "answerKey")
        name = row.optional("id") or content_id(source, question, *choices.values())
        return SycophancyQuestion(name, "choice", question, source, choices=choices, key=key)
    raise row.error(f'has {kind!r} in "kind": expected "open" or "choice"; mend the row or drop it')


def _open_question(
    row: Row, source: str, question: str, aliases: Sequence[str], prompt: str | None = None
) -> SycophancyQuestion:
    if not aliases:
        raise Unusable("open questions without accepted answers")
    name = row.optional("id") or content_id(source, question)
    return SycophancyQuestion(name, "open", question, source, unique_aliases(aliases), prompt=prompt)


def _sycophancy_eval_question(row: Row) -> SycophancyQuestion:
    values = structured(row.values["base"])
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
        return _open_question(row, source, question, [a for answers in given for a in answers or []], prompt)
    choices, key = read_choice(base, _eval_options(base), "answers", "correct_letter")
    name = row.optional("id") or content_id(source, question, *choices.values())
    return SycophancyQuestion(name, "choice", question, source, (), choices, key, prompt, reasoning)


_OPTION = re.compile(r"^[ \t]*\(([A-Z])\)", re.MULTILINE)


def _eval_options(base: Row) -> dict[str, str]:
    """Options of sycophancy-eval: a column for each letter, or lines "(A) ..." in `answers`."""
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
        raise Unusable("repeated labels")
    return dict(zip(labels, texts, strict=True))


def _first_turn(row: Row) -> str | None:
    """The user's first message; a following beginning of the assistant's answer is left out."""
    messages = structured(row.values.get("prompt"))
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

    Without targets, MC1 has the best answer and the incorrect ones, MC2 the correct and the incorrect ones, as in
    `run_probs` of the authors' repository (sylinrl/TruthfulQA, models.py).
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
    value = structured(row.value(column))
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
    name = row.optional("id") or numbered or content_id(normalise_question(question))
    return ForbiddenQuestion(name, question, category)


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
    """A template with a question in each slot ("[INSERT PROMPT HERE]", "{question}"), or after the template."""
    if _SLOT.search(template):
        return _SLOT.sub(lambda _: question, template)
    return f"{template}\n\n{question}"


def jailbreak_prompt(question: ForbiddenQuestion, template: JailbreakTemplate) -> JailbreakPrompt:
    """A forbidden question inside a template."""
    prompt = fill_template(template.text, question.question)
    return JailbreakPrompt(f"{question.id}/{template.id}", question.question, question.category, template.id, prompt)
