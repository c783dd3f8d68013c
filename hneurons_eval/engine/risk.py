"""The risk of one answer: the probability by a trained probe that it is hallucinated, and of each of its tokens.

```python
probe = risk_probe("hneurons_artifacts/probes/4f/4f1c…")
spec = RiskSpec(probe.directory, question=question)
probe.of_sampled(engine.generate(replace(request, capture=probe.capture(spec), top_logprobs=0)).result(), spec, engine)
given = GivenAnswer(probe, spec, engine, prompt, response)       # of a text that came from elsewhere
given.found if given.request is None else given.judged(engine.capture(given.request).result())
```

Each is a dict for a log: `probability`, `threshold`, the `span` that was judged, `tokens` as
`[start, end, log-odds]` each, or `skipped` with the reason for no probability.

The probe's log-odds are linear in the contributions, and these are means over the span's tokens (for `reduce=mean`).
So the log-odds of the answer are the mean over its span of the log-odds at each token alone; these are `tokens`.
"""

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from hneurons_eval.artifacts.references import on_disk, resolve_probe
from hneurons_eval.engine.offsets import sampled_offsets
from hneurons_eval.engine.requests import AnswerCapture, Captured, CaptureRequest, Generation, NeuronEngine
from hneurons_eval.judging.spans import answer_span, token_positions
from hneurons_eval.models.contributions import REDUCTIONS, Reduce
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.probe.files import ProbeError
from hneurons_eval.util.files import PROBE

SPANS = ("rule", "response")
NO_SPAN, NO_TEXT, TOO_LONG = "no answer span", "empty answer", "longer than the context"
"""Reasons why an answer has no risk."""


@dataclass(frozen=True)
class RiskSpec:
    """`risk` in a request's `extra_body`."""

    probe: str  # directory of the probe
    span: str = "rule"  # where the answer stands in the response: `rule`, or `response` for all of it
    question: str | None = None  # whose echoes in the response the rule leaves out; None: the last user message
    response: str | None = None  # a given answer; None: the one that is sampled

    def find_span(self, response: str) -> tuple[int, int] | None:
        """Characters of the answer in a response."""
        if self.span == "rule":
            return answer_span(self.question or "", response)
        return (0, len(response)) if response.strip() else None

    def asked(self, question: str) -> "RiskSpec":
        """The same with this question, unless it has one."""
        return self if self.question is not None else replace(self, question=question)

    @classmethod
    def parse(cls, value: Any) -> "RiskSpec":
        """From JSON. Raises ValueError: an unknown key or a value of the wrong kind."""
        if not isinstance(value, Mapping):
            raise ValueError(f"risk should be an object, found {type(value).__name__}")
        known = ("probe", "span", "question", "response")
        unknown = sorted(set(value) - set(known))
        if unknown or not isinstance(value.get("probe"), str):
            raise ValueError(f"risk takes {', '.join(known)}, and probe is the directory of a probe, found {value!r}")
        if value.get("span", "rule") not in SPANS:
            raise ValueError(f"risk span should be {' or '.join(SPANS)}, found {value['span']!r}")
        for name in ("question", "response"):
            if not isinstance(value.get(name), str | None):
                raise ValueError(f"risk {name} should be text, found {value[name]!r:.80}")
        return cls(value["probe"], value.get("span", "rule"), value.get("question"), value.get("response"))


@dataclass(frozen=True, eq=False)
class RiskProbe:
    """A probe that judges answers. Use `risk_probe`, which keeps those that were read."""

    probe: Probe  # the classifier
    directory: str  # where it is
    digest: str  # 16 hexadecimal digits of the hash of its weights
    reduce: Reduce  # over a region's tokens, as it was trained
    # The neurons that have a weight; None for an L2 probe, which judges no single tokens
    nonzero: NeuronSet | None = field(repr=False)

    def check(self, layout: NeuronLayout, model: str = "the model") -> None:
        """Refuse a model with other layers than the probe's. Raises ProbeError: says both."""
        if tuple(self.probe.widths) != layout.widths:
            raise ProbeError(
                f"the probe {self.directory} is of a model with {NeuronLayout(tuple(self.probe.widths))}, "
                f"but {model} has {layout}; train one on this model"
            )

    def capture(self, spec: RiskSpec) -> AnswerCapture:
        """The contributions to capture while an answer is generated."""
        return AnswerCapture(spec.find_span, self.reduce, per_token=self.nonzero)

    def token_logits(self, per_token: np.ndarray) -> np.ndarray:
        """The probe's log-odds, float64 `[tokens]`, from contributions `[tokens, neurons in nonzero]`."""
        assert self.nonzero is not None
        flat = self.nonzero.flat(NeuronLayout(self.probe.widths))
        return per_token.astype(np.float64) @ self.probe.coef_[flat] + self.probe.intercept_

    def of_sampled(self, generation: Generation, spec: RiskSpec, engine: NeuronEngine) -> dict[str, Any]:
        """The risk of an answer that was generated with `capture`, and with log-probabilities."""
        taken = generation.captured
        if taken is None or not generation.text.strip():
            return self._described(spec, generation.text) | {"skipped": NO_TEXT}
        found = self._described(spec, generation.text, taken.span, taken.answer, taken.response_tokens)
        if taken.contributions is None or generation.logprobs is None:
            return found | {"skipped": NO_SPAN}
        logprobs = np.array([entry.logprob for entry in generation.logprobs])
        offsets = sampled_offsets(engine.tokenizer, generation.tokens, generation.text)[: taken.response_tokens]
        return found | self._judged(taken.contributions[0], taken.per_token, logprobs, taken.answer, offsets)

    def _described(
        self,
        spec: RiskSpec,
        response: str,
        span: tuple[int, int] | None = None,
        answer: Sequence[int] = (),
        tokens: int = 0,
    ) -> dict[str, Any]:
        return {
            "probe": self.digest,
            "by": spec.span,
            "span": None if span is None else list(span),
            "characters": len(response),
            "response_tokens": tokens,
            "answer_tokens": len(answer),
            "threshold": float(self.probe.threshold_),
        }

    def _judged(
        self,
        contributions: np.ndarray,
        per_token: np.ndarray | None,
        logprobs: np.ndarray | None,
        answer: Sequence[int],
        offsets: Sequence[tuple[int, int]],
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"probability": float(self.probe.predict_proba(contributions[None])[0, 1])}
        if logprobs is not None:
            found["answer_logprob"] = float(logprobs[list(answer)].mean())
        if per_token is not None and self.nonzero is not None:
            found["tokens"] = [
                [int(start), int(end), round(float(logit), 4)]
                for (start, end), logit in zip(offsets, self.token_logits(per_token), strict=True)
            ]
        return found


class GivenAnswer:
    """The risk of a text as the answer to a prompt, from one teacher-forced pass of the baseline model.

    `request` is the pass to run, None where there is nothing to judge; `found` is the record without it.
    """

    def __init__(
        self, probe: RiskProbe, spec: RiskSpec, engine: NeuronEngine, prompt: tuple[int, ...], response: str
    ) -> None:
        encoded = engine.tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)
        tokens = tuple(encoded["input_ids"])
        self._offsets: list[tuple[int, int]] = [*map(tuple, encoded["offset_mapping"])]
        span = spec.find_span(response) if response.strip() else None
        self._answer = () if span is None else tuple(token_positions(self._offsets, span))
        self._probe = probe
        self.request: CaptureRequest | None = None
        self.found = probe._described(spec, response, span, self._answer, len(tokens))
        if not response.strip():
            self.found |= {"skipped": NO_TEXT}
        elif not self._answer:
            self.found |= {"skipped": NO_SPAN}
        elif len(prompt) + len(tokens) > engine.context:
            self.found |= {"skipped": TOO_LONG}
        else:
            region = tuple(len(prompt) + number for number in self._answer)
            self.request = CaptureRequest(
                prompt + tokens, (region,), probe.reduce, len(prompt), per_token=probe.nonzero
            )

    def judged(self, captured: Captured) -> dict[str, Any]:
        """The risk, from the pass's result."""
        own = self._probe._judged(
            captured.contributions[0], captured.per_token, captured.logprobs, self._answer, self._offsets
        )
        return self.found | own


def risk_probe(reference: str) -> RiskProbe:
    """The probe that a reference names (see `artifacts.references`); a directory is read again where it was rewritten.

    Raises UsageError: none, or one that cannot be read; ProbeError: trained with an unknown reduction.
    """
    if not os.path.isfile(os.path.join(reference, PROBE)):
        reference = str(resolve_probe(reference).directory)
    return _risk_probe(reference, on_disk(reference))


@functools.lru_cache(maxsize=16)
def _risk_probe(directory: str, _: tuple[tuple[int, int], ...]) -> RiskProbe:
    probe = Probe.load(directory)
    reduce = probe.metadata.get("reduce", "mean")
    if reduce not in REDUCTIONS:
        raise ProbeError(f"{directory} was trained on {reduce!r} over tokens; there are {', '.join(REDUCTIONS)}")
    weights = np.append(probe.coef_, probe.intercept_).astype("<f8")
    nonzero = None
    if probe.penalty_ == "l1" and (flat := np.flatnonzero(probe.coef_)).size:
        nonzero = NeuronSet.from_flat(flat, NeuronLayout(probe.widths))
    return RiskProbe(
        probe, str(directory), hashlib.sha256(weights.tobytes()).hexdigest()[:16], cast(Reduce, reduce), nonzero
    )
