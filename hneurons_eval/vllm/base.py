"""Base class of the engines on vLLM: the checkpoint's small files, checks, and pending requests."""

from concurrent.futures import Future
from typing import Any

from hneurons_eval.engine.offsets import end_tokens
from hneurons_eval.engine.requests import Captured, CaptureRequest, GenerateRequest, Generation, NeuronEngine
from hneurons_eval.models.architecture import text_config
from hneurons_eval.models.checkpoints import (
    fingerprint,
    load_config,
    load_layout,
    load_tokenizer,
    quantisation,
    resolve_model,
    stored_dtype,
)
from hneurons_eval.models.layout import NeuronLayout, UnsupportedModelError
from hneurons_eval.vllm.requests import PendingCapture, PendingGeneration, PendingRequest


class BaseEngine(NeuronEngine):
    """A model that vLLM runs; subclasses implement `_submit` and set `context` and `dtype`.

    `context` is one less than vLLM's `max_model_len`, so that an answer's last token can still be fed. Raises
    CheckpointError: the model cannot be found or read; UnsupportedModelError: its weights are quantised.
    """

    def __init__(self, name: str, revision: str | None, trust_remote_code: bool) -> None:
        from transformers import GenerationConfig

        self.name = name
        self.source = resolve_model(name)
        config = load_config(self.source, revision, trust_remote_code)
        if (method := quantisation(config)) is not None:
            raise UnsupportedModelError(f"{name} is quantised ({method}), which is not covered on vLLM; use hneurons/")
        self.stored_dtype = stored_dtype(config)
        self.layout: NeuronLayout = load_layout(self.source, revision)
        self.vocabulary: int = text_config(config).vocab_size
        self.fingerprint = fingerprint(name, revision)
        self.tokenizer: Any = load_tokenizer(name, revision, trust_remote_code)
        try:
            self.generation_config = GenerationConfig.from_pretrained(self.source, revision=revision or "main")
        except OSError:  # a checkpoint without one
            self.generation_config = GenerationConfig()
        self.end_tokens = end_tokens(self.generation_config, self.tokenizer)

    def _queue_generation(
        self, request: GenerateRequest, future: "Future[Generation]", limit: int, limit_reason: str
    ) -> None:
        self._submit(PendingGeneration(future, request, limit, limit_reason))

    def _queue_capture(self, request: CaptureRequest, future: "Future[Captured]") -> None:
        self._submit(PendingCapture(future, request))

    def _submit(self, pending: PendingRequest) -> None:
        raise NotImplementedError
