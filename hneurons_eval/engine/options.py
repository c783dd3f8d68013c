"""Options of one request to `hneurons/` or `hneurons-vllm/`, from `extra_body={"hneurons": {...}}`.

```python
output = await model.generate(messages, config=GenerateConfig(extra_body={"hneurons": {
    "neurons": "neurons.json",       # file, probe directory, log of `probe`, digest or Hub id; None for none
    "sign": "positive",              # of the weights of the neurons that are scaled: positive, negative, both
    "alpha": 0.0,
    "capture": {                     # contributions
        "span": "rule",              # or "response", or [start, end] in characters of the response
        "question": "...",           # whose echoes in the response the rule leaves out
        "reduce": "mean",            # or "max"
        "response": "Paris",         # optional: nothing is sampled, this text is the answer
    },
    "risk": {"probe": DIRECTORY, "span": "rule"},  # probability that the answer is hallucinated (`risk.py`)
    "loglikelihood": "Paris",        # of this text as the answer; nothing is sampled
    "completion": True,              # continue the messages as a plain text, without the chat template
    "ahead": [1, 2],                 # seeds with which the very same request will be made again
}}))
output.metadata["hneurons"]  # {"contributions": <artifact key>, "span": [0, 5], "risk": {...}, ...}
```

`neurons`, `alpha` and `risk` override the model args of these names. The risk is always by the baseline model's
neurons: an answer that was generated with neurons scaled gets a second pass without. `loglikelihood` gives
`{"loglikelihood": float, "tokens": int}`: the sum over the text's tokens, in nats, under the request's neurons and
alpha, before temperature and without the end of the turn. Samples `ahead` are generated with this one, so that their
common tokens are computed once, and returned when they are asked for; only the time it takes depends on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from hneurons_eval.artifacts.contribution_shards import PRECISIONS
from hneurons_eval.artifacts.references import neurons_to_scale
from hneurons_eval.engine.risk import RiskSpec, risk_probe
from hneurons_eval.judging.spans import answer_span
from hneurons_eval.models.contributions import REDUCTIONS, Reduce
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.scaling import BASELINE, Intervention


@dataclass(frozen=True)
class CaptureSpec:
    """`capture` in a request's `extra_body`; see the module's docstring."""

    span: str | tuple[int, int] = "rule"
    reduce: Reduce = "mean"
    precision: str = "float32"
    question: str = ""
    response: str | None = None

    def find_span(self, response: str) -> tuple[int, int] | None:
        """Characters of the answer in a response. Raises ValueError: a span that the response does not have."""
        if self.span == "rule":
            # Without the accepted answers: a span cut to the alias where the answer is right, and left
            # longer where it is wrong, would tell the probe the label.
            return answer_span(self.question, response)
        if self.span == "response":
            return (0, len(response)) if response else None
        start, end = cast(tuple[int, int], self.span)
        if not 0 <= start < end <= len(response):
            raise ValueError(f"capture span {[start, end]} is not within the response's {len(response)} characters")
        return start, end

    @classmethod
    def parse(cls, value: Any) -> "CaptureSpec":
        """From JSON. Raises ValueError: an unknown key or a value of the wrong kind."""
        if not isinstance(value, Mapping):
            raise ValueError(f"capture should be an object, found {type(value).__name__}")
        _refuse_unknown(value, ("span", "reduce", "precision", "question", "response"), "capture")
        span = value.get("span", "rule")
        if isinstance(span, list | tuple) and len(span) == 2 and all(type(edge) is int for edge in span):
            span = (span[0], span[1])
        elif span not in ("rule", "response"):
            raise ValueError(f"capture span should be rule, response or [start, end], found {span!r}")
        if value.get("reduce", "mean") not in REDUCTIONS:
            raise ValueError(f"capture reduce should be one of {', '.join(REDUCTIONS)}, found {value['reduce']!r}")
        if value.get("precision", "float32") not in tuple(PRECISIONS):
            raise ValueError(f"capture precision should be {' or '.join(PRECISIONS)}, found {value['precision']!r}")
        if not isinstance(value.get("response"), str | None):
            raise ValueError(f"capture response should be text, found {value['response']!r:.80}")
        return cls(
            span,
            value.get("reduce", "mean"),
            value.get("precision", "float32"),
            str(value.get("question", "")),
            value.get("response"),
        )


@dataclass(frozen=True)
class RequestOptions:
    """Options of one request; see the module's docstring."""

    intervention: Intervention = BASELINE
    capture: CaptureSpec | None = None  # contributions to capture, or None
    risk: RiskSpec | None = None  # the probe that judges the answer, or None
    ahead: tuple[int, ...] = ()  # seeds of the samples to generate with this one
    loglikelihood: str | None = None  # the text whose log-probability is wanted, or None
    completion: bool = False  # whether the messages are a plain text to continue

    @classmethod
    def parse(cls, extra_body: Mapping[str, Any] | None, defaults: "RequestOptions", question: str) -> "RequestOptions":
        """From a request's `extra_body`; `defaults` are those of the model args, `question` is the last user message.

        Raises ValueError: an unknown key, a value of the wrong kind, or options that exclude each other.
        """
        body = (extra_body or {}).get("hneurons", {})
        if not isinstance(body, Mapping):
            raise ValueError(f"extra_body hneurons should be an object, found {type(body).__name__}")
        known = ("neurons", "alpha", "sign", "capture", "risk", "ahead", "loglikelihood", "completion")
        _refuse_unknown(body, known, "extra_body hneurons")
        neurons = defaults.intervention.neurons
        if "neurons" in body:
            named, sign = body["neurons"], str(body.get("sign", "positive"))
            neurons = None if named is None else neurons_to_scale(str(named), sign)
        elif "sign" in body:
            raise ValueError("extra_body gives sign but no neurons; add neurons")
        intervention = Intervention(neurons, body.get("alpha", defaults.intervention.alpha))
        if "alpha" in body and neurons is None and intervention.alpha != 1.0:
            raise ValueError("extra_body gives alpha but there are no neurons; add neurons")
        capture = None if body.get("capture") is None else CaptureSpec.parse(body["capture"])
        risk = defaults.risk
        if "risk" in body:
            risk = None if body["risk"] is None else RiskSpec.parse(body["risk"])
        ahead = body.get("ahead", [])
        if not isinstance(ahead, list | tuple) or any(type(seed) is not int for seed in ahead):
            raise ValueError(f"extra_body hneurons ahead should be a list of seeds, found {ahead!r}")
        text, completion = body.get("loglikelihood"), body.get("completion", False)
        if text is not None and (not isinstance(text, str) or not text):
            raise ValueError(f"extra_body hneurons loglikelihood should be a text that is not empty, found {text!r}")
        if text is not None and capture is not None:
            raise ValueError("extra_body hneurons asks for capture and loglikelihood at once; make two requests")
        if not isinstance(completion, bool):
            raise ValueError(f"extra_body hneurons completion should be true or false, found {completion!r}")
        risk = None if risk is None else risk.asked(question)
        return cls(intervention, capture, risk, tuple(ahead), text, completion)

    def check(self, layout: NeuronLayout, model: str) -> None:
        """Refuse a model that the neurons or the probe are not of: NeuronSetError or ProbeError."""
        self.intervention.check(layout, model)
        if self.risk is not None:
            risk_probe(self.risk.probe).check(layout, model)


def _refuse_unknown(value: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ValueError(f"{where} has unknown {', '.join(unknown)}; it takes {', '.join(known)}")
