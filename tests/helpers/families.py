"""Tiny random models of every family that is promised, written as transformers configurations."""

from typing import Any

TINY: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
_ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_DEEPSEEK = _ROUTED | {
    "n_routed_experts": 4,
    "routed_scaling_factor": 1.7,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
    "kv_lora_rank": 8,
    "q_lora_rank": 12,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 4,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama-bias": ("llama", {"mlp_bias": True}),
    "mistral": ("mistral", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "gemma2": ("gemma2", {"query_pre_attn_scalar": 8}),
    "gemma3_text": ("gemma3_text", {"query_pre_attn_scalar": 8}),
    "phi": ("phi", {"num_key_value_heads": 4}),
    "phi3": ("phi3", {}),
    "olmo2": ("olmo2", {}),
    "gpt2": ("gpt2", {}),
    "gpt_neox": ("gpt_neox", {}),
    "opt": ("opt", {"word_embed_proj_dim": None}),
    "opt-projected": ("opt", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "falcon": ("falcon", {"multi_query": True, "hidden_size": 32}),
    "falcon-new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "hidden_size": 32}),
    "falcon-serial": (
        "falcon",
        {"parallel_attn": False, "multi_query": False, "bias": True, "alibi": True, "hidden_size": 32},
    ),
    "bloom": ("bloom", {}),
    "starcoder2": ("starcoder2", {}),
    "stablelm": ("stablelm", {}),
    "stablelm-parallel": ("stablelm", {"use_parallel_residual": True}),
    "cohere": ("cohere", {}),
    "smollm3": ("smollm3", {}),
    "granite": ("granite", {}),
    "gemma3": ("gemma3", {"query_pre_attn_scalar": 8}),
    "mistral3": ("mistral3", {}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": ("qwen3_moe", _ROUTED | {"num_experts": 4, "norm_topk_prob": True}),
    "qwen3_moe-mixed": ("qwen3_moe", _ROUTED | {"num_experts": 4, "norm_topk_prob": True, "mlp_only_layers": [1]}),
    "qwen2_moe": ("qwen2_moe", _ROUTED | {"num_experts": 4, "shared_expert_intermediate_size": 20}),
    "olmoe": ("olmoe", {"hidden_size": 32, "num_experts": 4, "num_experts_per_tok": 2}),
    "gpt_oss": (
        "gpt_oss",
        {
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "deepseek_v2": ("deepseek_v2", _DEEPSEEK | {"n_shared_experts": 2}),
    "deepseek_v3": ("deepseek_v3", _DEEPSEEK | {"n_shared_experts": 1, "n_group": 2, "topk_group": 1}),
}
"""Name of a variant: model type, and what differs from `TINY`."""

_WIDTH = {"gpt2": "n_inner", "opt": "ffn_dim", "falcon": "ffn_hidden_size", "bloom": None}
"""What `intermediate_size` is called, or None where the configuration cannot say it."""
_MULTIMODAL = {
    "gemma3": {"text": "gemma3_text", "vision": "siglip_vision_model", "mm_tokens_per_image": 4},
    "mistral3": {"text": "mistral", "vision": "pixtral", "spatial_merge_size": 2},
}


def make_config(name: str, **overrides: Any) -> Any:
    """The configuration of a variant (or of a plain model type), with the changes asked for."""
    from transformers import AutoConfig

    kind, own = FAMILIES.get(name, (name, {}))
    asked = TINY | own | overrides
    if kind == "falcon":
        del asked["head_dim"]  # always the hidden size over the heads
    if kind in _WIDTH:
        width = asked.pop("intermediate_size")
        if (key := _WIDTH[kind]) is not None:
            asked[key] = width
    if kind not in _MULTIMODAL:
        attributes = type(AutoConfig.for_model(kind)).attribute_map
        return AutoConfig.for_model(kind, **{attributes.get(key, key): value for key, value in asked.items()})
    wrapper = dict(_MULTIMODAL[kind])
    text, vision = wrapper.pop("text"), wrapper.pop("vision")
    return AutoConfig.for_model(
        kind,
        text_config=asked | {"model_type": text},
        vision_config=_VISION | {"model_type": vision},
        image_token_index=asked["vocab_size"] - 1,
        **wrapper,
    )


def make_model(name: str = "llama", seed: int = 0, dtype: str = "float32", **overrides: Any) -> Any:
    """A random model, the same for the same arguments; no two of its numbers alike."""
    import torch

    from hneurons_eval.models.architecture import model_class

    torch.manual_seed(seed)
    config = make_config(name, **overrides)
    model: Any = model_class(config).from_config(config)
    with torch.no_grad():  # larger than at initialisation
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name:
                parameter.add_(0.3 * torch.randn(parameter.shape))
            elif parameter.dim() > 1:
                parameter.normal_(0.0, 2.0 / parameter.shape[-1] ** 0.5)
            else:
                parameter.normal_(0.0, 0.5)
    return model.to(getattr(torch, dtype)).eval()
