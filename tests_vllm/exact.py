"""What engines should find, computed in float64, and how far float32 may be from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from rounding import relative_error

from hneurons_eval.engine.requests import CaptureRequest, GenerateRequest, Generation
from hneurons_eval.models.architecture import neuron_layout
from hneurons_eval.models.checkpoints import load_model
from hneurons_eval.models.neuron_set import NeuronSet


@dataclass(frozen=True)
class Pass:
    """A forward pass in float64.

    Attributes:
        contributions: of every token, `[tokens, neurons]`.
        norms: Euclidean norm of each token's contributions within each layer, `[tokens, layers]`.
        logit: largest magnitude of a logit.
        lead: of the best logit over the next, after every token, `[tokens]`.
        spread: largest standard deviation of the log-probability of a token that is sampled.
        hidden: largest magnitude in the final hidden states.
    """

    contributions: np.ndarray
    norms: np.ndarray
    logit: float
    lead: np.ndarray
    spread: float
    hidden: float


class Exact:
    """A model in float64, with what engines should find and the bounds of their errors."""

    def __init__(self, name: str) -> None:
        self.model: Any = load_model(name, dtype="float32").double()
        self.layout = neuron_layout(self.model)
        self._projections = [layer.mlp.down_proj for layer in self.model.model.layers]
        self.run = lru_cache(maxsize=16)(self._run)

    def _run(self, tokens: tuple[int, ...], flat: tuple[int, ...] = (), alpha: float = 1.0) -> Pass:
        factors = torch.ones(self.layout.total, dtype=torch.float64)
        factors[list(flat)] = alpha
        values: list[torch.Tensor] = []
        handles = []
        for own, projection in zip(factors.split(list(self.layout.widths)), self._projections, strict=True):

            def scale(_module: Any, inputs: Any, own: torch.Tensor = own) -> Any:
                return (inputs[0] * own,)

            def see(module: Any, inputs: Any, output: Any) -> None:
                z, h = inputs[0][0], output[0]
                values.append(z.abs() * module.weight.norm(dim=0) / h.norm(dim=-1, keepdim=True))

            handles += [projection.register_forward_pre_hook(scale), projection.register_forward_hook(see)]
        try:
            with torch.no_grad():
                output = self.model(torch.tensor([tokens]), output_hidden_states=True)
        finally:
            for handle in handles:
                handle.remove()
        best = output.logits[0].topk(2, dim=-1).values
        logprobs = output.logits[0].log_softmax(dim=-1)
        p = logprobs.exp()
        variance = (p * logprobs**2).sum(-1) - (p * logprobs).sum(-1) ** 2
        return Pass(
            torch.cat(values, dim=-1).numpy(),
            torch.stack([own.norm(dim=-1) for own in values], dim=-1).numpy(),
            float(output.logits.abs().max()),
            (best[:, 0] - best[:, 1]).numpy(),
            float(variance.clamp_min(0).max().sqrt()),
            float(output.hidden_states[-1].abs().max()),
        )

    def of(self, tokens: tuple[int, ...], neurons: NeuronSet | None = None, alpha: float = 1.0) -> Pass:
        """The pass over tokens with neurons scaled."""
        if neurons is None or alpha == 1.0:
            return self.run(tokens)
        return self.run(tokens, tuple(neurons.flat(self.layout).tolist()), alpha)

    # ---- contributions ----

    def check_contributions(
        self, found: np.ndarray, own: Pass, regions: Sequence[Sequence[int]], reduce: str = "mean"
    ) -> None:
        """Contributions `[regions, neurons]` differ from the exact ones by `relative_error` at most.

        The size of a token's sum is the norm of its contributions within a layer: W_down z, of which they are the
        parts. A region's error is at most the mean of its tokens' errors, or the largest of them.
        """
        assert found.shape == (len(regions), own.contributions.shape[1])
        for values, region in zip(found, regions, strict=True):
            part, sizes = own.contributions[list(region)], own.norms[list(region)].repeat(self.layout.widths, axis=1)
            expected, size = (part.mean(0), sizes.mean(0)) if reduce == "mean" else (part.max(0), sizes.max(0))
            allowed = relative_error(self.model.config, len(own.norms)) * size
            worst = (np.abs(values - expected) / allowed).max()
            assert worst <= 1, f"an error of {worst:.3g} times what rounding allows"

    def check_per_token(self, found: np.ndarray | None, own: Pass, start: int, flat: np.ndarray) -> None:
        """The same for some neurons at single tokens `[response tokens, neurons]`."""
        assert found is not None
        part = slice(start, start + len(found))
        layers, _ = self.layout.unflatten(flat)
        expected, size = own.contributions[part][:, flat], own.norms[part][:, layers]
        assert found.shape == expected.shape
        assert (np.abs(found - expected) / size).max() <= relative_error(self.model.config, len(own.norms))

    def check_capture(self, request: CaptureRequest, contributions: np.ndarray) -> None:
        """Contributions that a capture request found."""
        own = self.of(request.tokens, request.intervention.neurons, request.intervention.alpha)
        self.check_contributions(contributions, own, request.regions, request.reduce)

    def check_answer(self, request: GenerateRequest, answer: Generation) -> None:
        """Contributions that were taken while these tokens were generated."""
        captured, capture = answer.captured, request.capture
        assert captured is not None and capture is not None  # noqa: PT018
        if captured.contributions is None:
            return
        prompt = len(request.prompt)
        own = self.of(
            request.prompt + answer.tokens[: captured.response_tokens],
            request.intervention.neurons,
            request.intervention.alpha,
        )
        regions = [[prompt + place for place in captured.answer]]
        if capture.other:
            inside = set(regions[0])
            regions += [[k for k in range(prompt + captured.response_tokens) if k not in inside], list(range(prompt))]
        self.check_contributions(captured.contributions, own, regions, capture.reduce)

    # ---- logits and what follows from them ----

    def logit_error(self, own: Pass) -> float:
        """Of one logit: `relative_error` of the largest there is."""
        return relative_error(self.model.config, len(own.norms)) * own.logit

    def logprob_error(self, own: Pass) -> float:
        """Between two float32 engines: each has the logit's error and that of the logsumexp, which is no larger."""
        return 4 * self.logit_error(own)

    def entropy_error(self, own: Pass) -> float:
        """Between two float32 engines.

        An error e of the logits changes probabilities p by p (e - mean e), and the entropy by the covariance of e with
        log p: at most |e| times the standard deviation of log p under p, in each engine; with what logsumexp adds.
        """
        return 2 * self.logit_error(own) * (1 + own.spread)

    def hidden_error(self, own: Pass) -> float:
        """Between two float32 engines, of one entry of the final hidden states."""
        return 2 * relative_error(self.model.config, len(own.norms)) * own.hidden

    def certain(self, request: GenerateRequest, answer: Sequence[int]) -> int:
        """How many tokens of a greedy answer are certain: up to the first whose two best logits rounding may swap."""
        own = self.of(request.prompt + tuple(answer), request.intervention.neurons, request.intervention.alpha)
        lead = own.lead[len(request.prompt) - 1 :][: len(answer)]
        tied = np.flatnonzero(lead <= 2 * self.logit_error(own))
        return len(answer) if not len(tied) else int(tied[0])

    def check_tokens(
        self, requests: Sequence[GenerateRequest], found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]
    ) -> None:
        """Greedy answers agree in every token that is certain, and most are certain to their end."""
        whole = 0
        for request, ours, theirs in zip(requests, found, expected, strict=True):
            count = self.certain(request, theirs)
            assert tuple(ours[:count]) == tuple(theirs[:count])
            if count == len(theirs):
                whole += 1
                assert len(ours) == len(theirs)
        assert whole >= len(requests) / 2  # the comparison means something
