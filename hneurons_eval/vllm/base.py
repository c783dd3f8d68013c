"""Base class of the engines on vLLM: the checkpoint's small files, checks, and pending requests."""

from concurrent.futures import Future
from typing import Any

from hneurons_eval.engine.offsets import end_tokens
from hneurons_eval.engine.requests import (
    Captured,
    CaptureRequest,
    GenerateRequest,
    Generation,
    check_capture,
    check_generate,
)
from hneurons_eval.models.architecture import text_config
from hneurons_eval.models.checkpoints import (
    fingerprint,
    load_config,
    load_layout,
    load_tokenizer,
    quantisation,
    resolve_model,
)
from hneurons_eval.models.layout import NeuronLayout, UnsupportedModelError
from hneurons_eval.vllm.requests import PendingCapture, PendingGeneration, PendingRequest


class BaseEngine:
    """A model that vLLM runs; subclasses implement `_submit`.

    Attributes:
        name, source, fingerprint, tokenizer, layout, vocabulary, dtype: as in `NeuronEngine`.
        stored_dtype: of the weights in the checkpoint.
        context: maximum tokens of a sequence: one less than vLLM's `max_model_len`, so that an answer's last token can
            still be fed.
        generation_config: the checkpoint's generation settings.
        end_tokens: tokens that end an answer.

    Raises:
        CheckpointError: the model cannot be found or read.
        UnsupportedModelError: its weights are quantised.
    """

    context: int
    dtype: str

    def __init__(self, name: str, revision: str | None, trust_remote_code: bool) -> None:
        from transformers import GenerationConfig

        self.name = name
        self.source = resolve_model(name)
        config = load_config(self.source, revision, trust_remote_code)
        if (method := quantisation(config)) is not None:
            raise UnsupportedModelError(f"{name} is quantised ({method}), which is not covered on vLLM; use hneurons/")
        text = text_config(config)
        stored = getattr(config, "dtype", None) or getattr(text, "dtype", None) or "float32"
        self.stored_dtype = str(stored).removeprefix("torch.")
        self.layout: NeuronLayout = load_layout(self.source, revision)
        self.vocabulary: int = text.vocab_size
        self.fingerprint = fingerprint(name, revision)
        self.tokenizer: Any = load_tokenizer(name, revision, trust_remote_code)
        try:
            self.generation_config = GenerationConfig.from_pretrained(self.source, revision=revision or "main")
        except OSError:  # a checkpoint without one
            self.generation_config = GenerationConfig()
        self.end_tokens = end_tokens(self.generation_config, self.tokenizer)

    def generate(self, request: GenerateRequest) -> "Future[Generation]":
        """Queue an answer to sample. Raises ValueError, NeuronSetError: as `check_generate`."""
        check_generate(request, self)
        future: Future[Generation] = Future()
        room = self.context - len(request.prompt)
        if room < 1:
            future.set_result(Generation((), "", "model_length", () if request.top_logprobs is not None else None))
            return future
        reason = "max_tokens" if request.max_tokens <= room else "model_length"
        self._submit(PendingGeneration(future, request, min(request.max_tokens, room), reason))
        return future

    def capture(self, request: CaptureRequest) -> "Future[Captured]":
        """Queue a teacher-forced pass. Raises ValueError, NeuronSetError: as `check_capture`."""
        check_capture(request, self)
        future: Future[Captured] = Future()
        self._submit(PendingCapture(future, request))
        return future

    def _submit(self, pending: PendingRequest) -> None:
        raise NotImplementedError
