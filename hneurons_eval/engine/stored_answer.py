"""The contributions of one answer in the artifacts: their key, the stored row, and the record for the log."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import anyio.to_thread
import numpy as np

from hneurons_eval.artifacts.contribution_shards import Contributions, StoreSpec
from hneurons_eval.artifacts.contribution_store import ContributionStore, open_store
from hneurons_eval.artifacts.paths import content_key, stores_root
from hneurons_eval.engine.options import CaptureSpec
from hneurons_eval.engine.requests import CaptureRequest, NeuronEngine
from hneurons_eval.models.scaling import Intervention

REGIONS = ("answer", "other", "prompt")
"""The answer's tokens, all other tokens of prompt and response (Gao et al. 2025, section 2.2), and the prompt's."""


@dataclass(frozen=True)
class StoredAnswer:
    """One answer, given or sampled."""

    engine: NeuronEngine  # its model's
    model: str  # name of the model
    spec: CaptureSpec  # the request's capture options
    intervention: Intervention  # under which the contributions are
    prompt: tuple[int, ...]  # token ids
    tokens: tuple[int, ...]  # ids of the response
    response: str  # its text
    span: tuple[int, int] | None  # characters of the answer in the response, or None
    answer: tuple[int, ...]  # numbers of the answer's tokens among `tokens`

    @property
    def request(self) -> CaptureRequest:
        """The pass that captures it."""
        start = len(self.prompt)
        positions = tuple(start + number for number in self.answer)
        inside = set(positions)
        other = tuple(position for position in range(start + len(self.tokens)) if position not in inside)
        regions = (positions, other, tuple(range(start)))
        return CaptureRequest(self.prompt + self.tokens, regions, self.spec.reduce, start, self.intervention)

    @cached_property
    def key(self) -> str:
        """Hash of everything that contributions depend on: the same for given and for sampled answers."""
        return content_key(
            kind="contributions-v2",
            model=self.engine.fingerprint,
            dtype=self.engine.dtype,
            tokens=self.prompt + self.tokens,
            answer=[len(self.prompt) + number for number in self.answer],
            reduce=self.spec.reduce,
            **self._condition,
        )

    @property
    def _condition(self) -> dict[str, Any]:
        neurons, alpha = self.intervention.key
        return {"neurons": neurons, "alpha": alpha}

    def described(self, extras: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
        """The record for the log; `extras`: of the stored row, None where there is none.

        Log-probabilities and entropy are of the answer's tokens, in nats.
        """
        found: dict[str, Any] = {
            "contributions": None,
            "span": None if self.span is None else list(self.span),
            "prompt_tokens": len(self.prompt),
            "response_tokens": len(self.tokens),
            "answer_tokens": len(self.answer),
            "whole_response": 0 < len(self.answer) == len(self.tokens),
        }
        if extras is not None:
            numbers = list(self.answer)
            found |= {
                "contributions": self.key,
                "answer_logprob": float(extras["logprobs"][numbers].mean()),
                "answer_min_logprob": float(extras["logprobs"][numbers].min()),
                "answer_entropy": float(extras["entropies"][numbers].mean()),
            }
        return found

    async def find(self) -> Mapping[str, np.ndarray] | None:
        """The extras of the row that is stored already, or None."""
        store = await anyio.to_thread.run_sync(self._store)
        if not await anyio.to_thread.run_sync(store.__contains__, self.key):
            return None
        return await anyio.to_thread.run_sync(store.extras, self.key)

    async def add(
        self, contributions: np.ndarray, logprobs: np.ndarray, entropies: np.ndarray, hidden: np.ndarray | None
    ) -> Mapping[str, np.ndarray]:
        """Store the row; its extras.

        `contributions` are float32 `[regions, neurons]`, `logprobs` and `entropies` float32 of each token of the
        response.
        """
        extras = {"logprobs": logprobs, "entropies": entropies} | ({} if hidden is None else {"hidden": hidden})
        about = {
            "question": self.spec.question,
            "response": self.response,
            "span": None if self.span is None else list(self.span),
            "model": self.model,
            "dtype": self.engine.dtype,
            **self._condition,
        }
        store = await anyio.to_thread.run_sync(self._store)
        await anyio.to_thread.run_sync(store.add, self.key, Contributions(contributions, about, extras))
        return extras

    def _store(self) -> ContributionStore:
        spec = self.spec
        kind = StoreSpec(self.engine.fingerprint, self.engine.layout.widths, REGIONS, spec.reduce, spec.precision)
        return open_store(stores_root() / kind.digest, kind)
