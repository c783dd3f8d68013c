"""What the pipeline knows of one answer, from the log of `capture` to those of `probe` and `detect`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hneurons_eval.data.questions import normalise_question


@dataclass(frozen=True)
class AnswerRecord:
    """One answer, as the scorers `captured` and `detected` write it to their logs.

    Fields have the names of the keys in a score's metadata; a field is empty where a stage has not filled it yet.

    Attributes:
        id: of the sample.
        response: the model's text.
        question, relation, aliases, dataset: of the question; aliases are its accepted answers.
        verdict: of the judge, in logs of `detect`.
        label: `faithful`, `hallucinated`, or empty.
        contributions: key of the answer's contributions in the store; empty without a span.
        span: characters of the answer in the response.
        prompt_tokens, response_tokens, answer_tokens: numbers of tokens.
        whole_response: whether the span is all of the response.
        answer_logprob, answer_min_logprob, answer_entropy: over the answer's tokens, in nats.
        skipped: why it was not classified.
        probability, prediction, threshold: that it is hallucinated, by the probe; 0 or 1; of the probe.
        fold: of the probe that did not see it, in logs of `probe`.
        baselines: scores by everything that the probe is compared with.
        sets: of each selection, scores by its L2 refit and by random sets (base64-encoded float16).
        selected: contributions of the probe's neurons, base64-encoded float16.
        trained_relation: whether the probe was trained on questions of its relation; None where that is not known.
        probe: summary of the probe.
    """

    id: str = ""
    response: str = ""
    question: str = ""
    relation: str | None = None
    aliases: Sequence[str] = ()
    dataset: str = ""
    verdict: str | None = None
    label: str = ""
    contributions: str = ""
    span: Sequence[int] | None = None
    prompt_tokens: int = 0
    response_tokens: int = 0
    answer_tokens: int = 0
    whole_response: bool = False
    answer_logprob: float = 0.0
    answer_min_logprob: float = 0.0
    answer_entropy: float = 0.0
    skipped: str | None = None
    probability: float | None = None
    prediction: int | None = None
    threshold: float | None = None
    fold: int | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)
    sets: Mapping[str, Any] = field(default_factory=dict)
    selected: str | None = None
    trained_relation: bool | None = None
    probe: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, details: Mapping[str, Any] | None, id: str = "", response: str | None = None) -> "AnswerRecord":
        """From a score's metadata; keys that are not fields are left out."""
        known = {name: value for name in FIELDS if (value := (details or {}).get(name)) is not None}
        return cls(**{**known, "id": id, "response": response or ""})

    @property
    def normalised_question(self) -> str:
        """The question as two sets of questions are compared."""
        return normalise_question(self.question)


FIELDS = tuple(one.name for one in fields(AnswerRecord))
