"""What Inspect discovers. Every `inspect` command imports this, so nothing heavy is imported here."""

from inspect_ai.model import ModelAPI, modelapi

from hneurons_eval import scorers, solvers
from hneurons_eval.tasks import (
    base_transfer,
    capture,
    closed_book,
    collect,
    detect,
    drift,
    faitheval,
    falseqa,
    jailbreak,
    pipeline,
    probe,
    sycophancy,
    truthfulqa,
)

__all__ = [
    "base_transfer",
    "capture",
    "closed_book",
    "collect",
    "detect",
    "drift",
    "faitheval",
    "falseqa",
    "hneurons",
    "hneurons_vllm",
    "jailbreak",
    "pipeline",
    "probe",
    "scorers",
    "solvers",
    "sycophancy",
    "truthfulqa",
]


@modelapi(name="hneurons")
def hneurons() -> type[ModelAPI]:
    """`hneurons/<model>`: local transformers models whose neurons can be captured and scaled."""
    from hneurons_eval.engine.hf_provider import HNeuronsAPI

    return HNeuronsAPI


@modelapi(name="hneurons-vllm")
def hneurons_vllm() -> type[ModelAPI]:
    """`hneurons-vllm/<model>`: the same for models that vLLM runs."""
    from hneurons_eval.vllm.provider import HNeuronsVLLMAPI

    return HNeuronsVLLMAPI
