"""The components that Inspect discovers. Every `inspect` command imports this, so nothing heavy is imported here."""

from inspect_ai.model import ModelAPI, modelapi

# Importing them registers their components.
import hneurons_eval.scorers  # noqa: F401
import hneurons_eval.solvers  # noqa: F401
import hneurons_eval.tasks  # noqa: F401


@modelapi(name="hneurons")
def hneurons() -> type[ModelAPI]:
    """`hneurons/<model>`: local transformers models whose neurons can be captured and scaled."""
    from hneurons_eval.engine.hf_provider import HNeuronsAPI

    return HNeuronsAPI


@modelapi(name="hneurons-vllm")
def hneurons_vllm() -> type[ModelAPI]:
    """`hneurons-vllm/<model>`: the same for models on vLLM."""
    from hneurons_eval.vllm.provider import HNeuronsVLLMAPI

    return HNeuronsVLLMAPI
