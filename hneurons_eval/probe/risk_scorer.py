"""The risk of an answer in a program of your own, from a transformers model and a trained probe.

```python
risk = RiskScorer(model, tokenizer, Probe.load("my_probe"))
risk("Who wrote Hamlet?", "Charles Dickens")  # the probability that the answer is hallucinated, for example 0.78
```
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from hneurons_eval.models.architecture import neuron_layout
from hneurons_eval.models.own_answers import answer_contributions
from hneurons_eval.probe.classifier import Probe


class RiskScorer:
    """Probability that an answer is hallucinated, by a trained probe; one pass over question and answer.

    Args:
        model: a transformers causal language model, the one of the probe.
        tokenizer: its fast tokenizer.
        probe: a fitted probe.

    Raises:
        ValueError: the probe is of a model with other layers.
        UnsupportedModelError: the model's neurons cannot all be found.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, probe: Probe) -> None:
        layout = neuron_layout(model)
        if tuple(probe.widths) != layout.widths:
            raise ValueError(
                f"the probe is of {probe.model or 'a model'} with {sum(probe.widths):,} neurons in {len(probe.widths)} "
                f"layers, this model has {layout}; use a probe of this model"
            )
        self.model, self.tokenizer, self.probe = model, tokenizer, probe

    def __call__(self, question: str, answer: str) -> float:
        """The risk of one answer.

        Args:
            question: as it was put to the model.
            answer: what the model said.

        Raises:
            ValueError: an empty answer.
        """
        return float(self.many([question], [answer])[0])

    def many(self, questions: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
        """The risks of several answers, in batches: float64 `[answers]`.

        Args:
            questions: one for each answer.
            answers: what the model said.

        Raises:
            ValueError: not as many answers as questions, or one that is empty, which is named.
        """
        reduce = "max" if self.probe.metadata.get("reduce") == "max" else "mean"
        X = answer_contributions(self.model, self.tokenizer, questions, answers, reduce=reduce)
        return self.probe.predict_proba(X)[:, 1]
