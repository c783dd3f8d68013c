"""What the pipeline knows of one answer, from the log of `capture` to those of `probe` and `detect`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hneurons_eval.data.questions import normalise_question


@dataclass(frozen=True)
class AnswerRecord:
    """One answer, as the scorers `captured` and `detected` write it to their logs.

    Fields have the names of the keys in a score's metadata; a field is empty where a stage has not filled it yet.
    """

    id: str = ""  # of the sample
    response: str = ""  # the model's text
    question: str = ""
    relation: str | None = None
    aliases: Sequence[str] = ()  # accepted answers
    dataset: str = ""
    verdict: str | None = None  # of the judge, in logs of `detect`
    label: str = ""  # `faithful`, `hallucinated`, or empty
    contributions: str = ""  # key in the store; empty without a span
    span: Sequence[int] | None = None  # characters of the answer in the response
    prompt_tokens: int = 0
    response_tokens: int = 0
    answer_tokens: int = 0
    whole_response: bool = False  # whether the span is all of it
    answer_logprob: float = 0.0  # mean over the answer's tokens, in nats
    answer_min_logprob: float = 0.0  # in nats
    answer_entropy: float = 0.0  # mean, in nats
    skipped: str | None = None  # why it was not classified
    probability: float | None = None  # that it is hallucinated, by the probe
    prediction: int | None = None
    threshold: float | None = None  # of the probe
    fold: int | None = None  # of the probe that did not see it, in logs of `probe`
    baselines: Mapping[str, float] = field(default_factory=dict)  # scores by what the probe is compared with
    sets: Mapping[str, Any] = field(default_factory=dict)  # of each selection: scores by L2 refit and random sets
    selected: str | None = None  # contributions of the probe's neurons, base64-encoded float16
    trained_relation: bool | None = None  # whether the probe was trained on its relation, where known
    probe: Mapping[str, Any] = field(default_factory=dict)  # summary of the probe

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
