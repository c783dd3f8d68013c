"""A model in which one neuron is known to decide between two answers, and by how much.

One layer. Attention is uniform and adds up how often the word ` z` stands in the prompt; the neuron PLANTED writes a
constant; the answer is `comply` where that constant, times alpha, outweighs the number of z, and `resist` where it does
not. All other neurons write nothing: they are the null.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inspect_ai.log import EvalLog
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput, ModelUsage
from inspect_ai.tool import ToolCall
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from hneurons_eval import NeuronSet
from hneurons_eval.models.checkpoints import resolve_model
from hneurons_eval.models.layout import NeuronLayout

PLANTED = 5
WIDTH = 24
COUNTED = " z"
PER_COUNT = 60.0


def planted_checkpoint(directory: Path, comply: str, resist: str, strength: float = 2.2) -> Path:
    """Write the model with the bundled tokenizer."""
    bundled = Path(resolve_model("smollm2-135m-instruct"))
    tokenizer = AutoTokenizer.from_pretrained(bundled)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=32, intermediate_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=False, eos_token_id=2, bos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config).eval()
    one = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in (comply, resist, COUNTED)}
    assert all(len(ids) == 1 for ids in one.values()), one
    yes, no, counted = (ids[0] for ids in one.values())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        layer = model.model.layers[0]
        embedding[:, 0] = 10.0
        embedding[counted, 1] = 1.0
        embedding[[yes, no], 4] = 30.0  # an answer is followed by the end of text
        layer.self_attn.v_proj.weight[0, 1] = 1.0
        layer.self_attn.o_proj.weight[2, 0] = 1.0
        torch.nn.init.normal_(layer.mlp.gate_proj.weight, std=0.3)
        torch.nn.init.normal_(layer.mlp.up_proj.weight, std=0.3)
        layer.mlp.gate_proj.weight[PLANTED] = 0.0
        layer.mlp.up_proj.weight[PLANTED] = 0.0
        layer.mlp.gate_proj.weight[PLANTED, 0] = layer.mlp.up_proj.weight[PLANTED, 0] = 1.0
        layer.mlp.down_proj.weight[3, PLANTED] = strength / 32.0
        head[yes, 3], head[no, 2] = 1.0, PER_COUNT
        head[[yes, no], 0] = 5.0
        head[2, 4] = 30.0
    model.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(bundled / name, directory / name)
    return directory


def complies(checkpoint: Path, prompts: list[str], comply: str, resist: str, alphas: tuple[float, ...]) -> np.ndarray:
    """Whether the answer would be `comply`: bool `[alphas, prompts]`, from the logits of plain transformers.

    The weights are changed for each alpha; nothing of the package is used.
    """
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = LlamaForCausalLM.from_pretrained(checkpoint)
    yes, no = (tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in (comply, resist))
    column = model.model.layers[0].mlp.down_proj.weight
    before = column.detach()[:, PLANTED].clone()
    found = np.zeros((len(alphas), len(prompts)), bool)
    with torch.no_grad():
        for a, alpha in enumerate(alphas):
            column[:, PLANTED] = alpha * before
            for p, prompt in enumerate(prompts):
                turns = [{"role": "user", "content": prompt}]
                text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
                logits = model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0, -1]
                assert int(logits.argmax()) in (yes, no)
                found[a, p] = bool(logits[yes] > logits[no])
    return found


# --- what tests of sweeps over that model share -----------------------------------------------------------


def neuron_file(directory: Path, index: int) -> str:
    """A file of one neuron of the model: PLANTED, or any other."""
    path = directory / f"neuron-{index}.json"
    NeuronSet.from_flat(np.array([index]), NeuronLayout((WIDTH,))).save(path)
    return str(path)


def figures(log: EvalLog) -> dict[str, float]:
    """All metrics of a log that ended well."""
    assert log.status == "success", log.error
    assert log.results is not None
    return {name: one.value for score in log.results.scores for name, one in score.metrics.items()}


def gives(verdict: str) -> ModelOutput:
    """What a grader says that gives a verdict by a call."""
    call = ToolCall(id="1", function="give_verdict", arguments={"verdict": verdict})
    choice = ChatCompletionChoice(message=ChatMessageAssistant(content="", tool_calls=[call]), stop_reason="tool_calls")
    return ModelOutput(model="m", choices=[choice], usage=ModelUsage(input_tokens=1, output_tokens=1))
