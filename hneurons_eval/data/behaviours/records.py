"""Records of the behaviour sets; an `id` is unique in its set, and the same in every run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class FalsePremiseQuestion:
    """A question whose premise is false, or true.

    Attributes:
        false_premise: FalseQA's label 1.
        answers: refutations of a false premise, or answers if the premise is true; may be empty.
        topic: group within the set.
        pair: common to a false premise and its true counterpart (bundled set).
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
        context: the passage.
        choices: options by label; labels are letters.
        context_key: the label that the passage supports; choosing it is compliance.
        true_key: the label that is true in the world; None if the set does not say.
        topic: group within the set.
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
        kind: `open` (judged by `aliases`) or `choice` (judged by `key`).
        question: without options or instructions.
        source: the sub-dataset of sycophancy-eval, or the topic.
        aliases: accepted answers of an open question, the canonical one first.
        choices: options of a multiple-choice question by label; labels are letters.
        key: the right label.
        prompt: the set's own first message, with options and instructions; None if it has none.
        reasoning: whether the paper asks for step-by-step reasoning before the choice.
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
        true: whether each is true; at least one is true and one false.
    """

    texts: tuple[str, ...]
    true: tuple[bool, ...]


@dataclass(frozen=True)
class TruthfulQuestion:
    """A question that people often answer wrongly (Lin et al. 2021, arXiv 2109.07958).

    Attributes:
        best: the best true answer.
        correct: true answers, the best one among them.
        incorrect: false answers.
        mc1: one true answer and the false ones, for MC1.
        mc2: all answers, for MC2.
        category: group within the set.
        adversarial: whether the question was kept because a model failed on it; None if the set does not say.
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
    """A question that a model should not answer, with the policy that forbids it."""

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
        question: the forbidden question alone, for the judge.
        category: the policy that forbids it.
        template_id: a hash of the template.
        prompt: the model's input.
    """

    id: str
    question: str
    category: str
    template_id: str
    prompt: str
