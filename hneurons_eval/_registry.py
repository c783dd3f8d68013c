"""What Inspect discovers. Every `inspect` command imports this, so nothing heavy is imported here."""

from inspect_ai.model import ModelAPI, modelapi

from hneurons_eval import scorers, solvers, tasks

__all__ = ["hneurons", "hneurons_vllm", "scorers", "solvers", "tasks"]


@modelapi(name="hneurons")
def hneurons() -> type[ModelAPI]:
    """`hneurons/<model>`: local transformers models whose neurons can be captured and scaled."""
    from hneurons_eval.provider import HNeuronsAPI

    return HNeuronsAPI


@modelapi(name="hneurons-vllm")
def hneurons_vllm() -> type[ModelAPI]:
    """`hneurons-vllm/<model>`: the same for models that vLLM runs."""
    from hneurons_eval.vllm.provider import HNeuronsVLLMAPI

    return HNeuronsVLLMAPI
