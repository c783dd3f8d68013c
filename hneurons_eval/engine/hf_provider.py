"""The Inspect provider `hneurons/<model>`: a transformers model whose neurons can be captured and scaled."""

from typing import Any

from inspect_ai.model import GenerateConfig

from hneurons_eval.engine.engine import Engine, get_engine
from hneurons_eval.engine.provider import NeuronsAPI
from hneurons_eval.util.errors import UsageError


class HNeuronsAPI(NeuronsAPI[Engine]):
    """Inspect provider for local transformers models whose neurons can be captured and scaled.

    Args:
        neurons: a neuron file or probe directory.
        alpha: factor of the neurons.
        sign: of the weights of the neurons that are scaled: `positive` (the H-neurons), `negative` or `both`.
        risk: directory of a probe that judges every answer.
        dtype, device, revision, threads, deterministic, trust_remote_code: as of `get_engine`.
        strict: the former name of `deterministic`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        neurons: str | None = None,
        alpha: float | str | None = None,
        sign: str = "positive",
        dtype: str = "auto",
        device: str | None = None,
        revision: str | None = None,
        threads: int | None = None,
        deterministic: bool = False,
        strict: bool = False,
        trust_remote_code: bool = False,
        risk: str | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise UsageError(
                f"unknown model args {', '.join(sorted(unknown))}; there are neurons, alpha, sign, risk, dtype, "
                "device, revision, threads, deterministic, trust_remote_code"
            )

        def start() -> Engine:
            return get_engine(
                model_name,
                revision=None if revision is None else str(revision),
                dtype=dtype,
                device=device,
                threads=threads,
                deterministic=deterministic or strict,
                trust_remote_code=trust_remote_code,
            )

        super().__init__(model_name, api_key, config, neurons, alpha, start, revision, dtype, risk, sign)
