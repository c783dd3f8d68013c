"""What engines on vLLM have in common, wherever vLLM runs: the checkpoint's small files, and requests as jobs."""

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
from hneurons_eval.vllm.requests import Draw, Given, Job


class JobEngine:
    """A model that vLLM runs, here or elsewhere; a subclass says where jobs go.

    Attributes:
        name, source, fingerprint, tokenizer, layout, vocabulary, dtype: as in `NeuronEngine`.
        stored_dtype: of the weights as the checkpoint holds them.
        context: most tokens a sequence may have: one less than vLLM's `max_model_len`, so that an answer's last token
            can still be fed.
        generation_config: the checkpoint's generation settings.
        ends: tokens that end an answer.

    Raises:
        CheckpointError: the model cannot be found or read.
        UnsupportedModelError: its weights are quantised.
    """

    context: int
    dtype: str

    def __init__(self, name: str, revision: str | None, trust_remote_code: bool) -> None:
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
        self.generation_config = _generation_config(self.source, revision)
        self.ends = end_tokens(self.generation_config, self.tokenizer)

    def generate(self, request: GenerateRequest) -> "Future[Generation]":
        """Queue an answer to sample.

        Raises:
            ValueError, NeuronSetError: as `check_generate`.
        """
        check_generate(request, self)
        draw = Draw.of(request, self.context)
        if not draw.future.done():
            self._put(draw)
        return draw.future

    def capture(self, request: CaptureRequest) -> "Future[Captured]":
        """Queue a teacher-forced pass.

        Raises:
            ValueError, NeuronSetError: as `check_capture`.
        """
        check_capture(request, self)
        future: Future[Captured] = Future()
        self._put(Given(future, request))
        return future

    def _put(self, job: Job) -> None:
        raise NotImplementedError


def _generation_config(source: str, revision: str | None) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(source, revision=revision or "main")
    except OSError:  # a checkpoint without one
        return GenerationConfig()
