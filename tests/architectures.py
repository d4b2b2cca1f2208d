"""A tiny random model of every decoder type that transformers knows, made without a download.

`decoder(model_type)` makes one; `TYPES` are all of them, without which only `UNBUILDABLE` fail.
Every kind of layer that a type can mix occurs at least once: the short windows, chunks and indexed
selections reach less far than 40 tokens. Else a type is what its configuration says by default
(Phi-3 without a window, Mistral with one in each layer).

What the types do differently, and no configuration changes:
- no attention at all: falcon_mamba, mamba, mamba2, rwkv, xlstm;
- a forward pass in which a position sees later ones: cpmant and xlnet (the prompt is read in both
  directions), reformer (later tokens move the borders of the hash buckets).

All of them generate.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

# What is different in the lowest version of transformers that is allowed.
OLDEST = version("transformers").startswith("5.19.")

TYPES: tuple[str, ...] = tuple(sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))

_DRAFTS = "drafts for another model: has no forward pass without that model's embeddings and keys"
_MUSIC = "AutoModelForCausalLM hands its decoder the configuration of the whole, which is refused"
UNBUILDABLE: dict[str, str] = {
    "gemma3n": "needs the timm package",
    "gemma4_assistant": _DRAFTS,
    "gemma4_unified_assistant": _DRAFTS,
    "musicgen": _MUSIC,
    "musicgen_melody": _MUSIC,
} | ({"cohere_compass_text": "its rotary embedding is empty"} if OLDEST else {})

_SPREAD = 0.3  # of the weights: wide enough for sharp attention and logits of a few units
_WINDOW = 12

# What a field is set to, whichever configuration has it.
_NAMES_BY_VALUE: list[tuple[object, str]] = [
    (0, "pad_token_id"),
    (1, """bos_token_id n_group topk_group num_expert_group n_shared_experts num_shared_experts
        moe_num_shared_experts first_k_dense_replace num_dense_layers num_nextn_predict_layers
        mamba_n_groups n_groups num_mem_blocks zero_expert_num index_local_blocks"""),
    (2, """eos_token_id num_hidden_layers num_layers n_layer n_layers encoder_layers decoder_layers
        num_blocks num_encoder_layers num_decoder_layers depth num_key_value_heads num_kv_heads
        kv_n_heads swa_num_key_value_heads num_experts_per_tok num_experts_per_token moe_topk moe_k
        moe_top_k top_k_experts index_topk_blocks"""),
    (4, """num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads
        decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads
        swa_num_attention_heads num_experts num_local_experts n_routed_experts moe_num_experts
        qk_rope_head_dim rotary_dim index_n_heads index_block_size linear_num_heads
        linear_num_key_heads linear_num_value_heads mamba_n_heads n_mamba_heads mamba_num_heads
        hc_lowrank"""),
    (8, """head_dim d_kv d_head dim_head attention_head_size attention_head_dim swa_head_dim
        qk_nope_head_dim v_head_dim index_head_dim linear_head_dim linear_key_head_dim
        linear_value_head_dim kv_channels mamba_d_state state_size laurel_rank
        hidden_size_per_layer_input pronunciation_embed_dim shape_embed_dim output_channels
        local_attn_chunk_length lsh_attn_chunk_length"""),
    (_WINDOW, """sliding_window sliding_window_size attention_window_size window_size
        local_attention_window_len attention_chunk_size keep_window_size index_topk"""),
    (16, """moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size
        moe_shared_expert_intermediate_size shared_intermediate_size expert_ffn_hidden_size
        router_hidden_size q_lora_rank kv_lora_rank o_lora_rank mamba_d_head mamba_head_dim
        mamba_chunk_size mamba_dt_rank chunk_size"""),
    (2 * _WINDOW, "local_attention"),  # of which ModernBERT's window is half
    (32, """hidden_size n_embd d_model emb_dim embedding_dim embedding_size input_embedding_size
        output_embedding_size word_embed_proj_dim hidden_size_global backbone_hidden_size lru_width
        out_hidden_size adapter_in_dim adapter_input_size adapter_out_dim vision_output_dim
        nemo_conv_channels depthwise_separable_out_channel ext_pw_out_channel image_size"""),
    (48, """intermediate_size ffn_hidden_size n_inner ffn_dim encoder_ffn_dim decoder_ffn_dim d_ff
        d_inner dff dim_ff intermediate_size_mlp dense_intermediate_size mlp_dim
        prefix_dense_intermediate_size feed_forward_size"""),
    (128, """max_position_embeddings n_positions n_ctx max_seq_len max_target_positions
        max_source_positions num_position_embeddings context_length model_max_length"""),
    (360, """vocab_size unpadded_vocab_size decoder_vocab_size vocab_size_per_layer_input
        pronunciation_vocab_size shape_vocab_size"""),
    (_SPREAD, """initializer_range init_std embed_init_std initializer_factor
        embedding_initializer_range"""),
    (True, "is_decoder"),
]  # fmt: skip
_SMALL = {name: value for value, names in _NAMES_BY_VALUE for name in names.split()}
_ABSENT_IF_NONE = {"sliding_window", "q_lora_rank"}
_LISTED_BY_LAYER = (
    "layer_types", "layers_block_type", "mlp_layer_types", "indexer_types", "no_rope_layers",
    "activation_sparsity_pattern",
)  # fmt: skip

_SLIDES: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"]}
_MAY_SLIDE = _SLIDES | {"use_sliding_window": True, "sliding_window": _WINDOW}
_EAGER = {"attn_implementation": "eager"}  # which newer versions of transformers choose themselves
_CONVOLVES = {"layer_types": ["conv", "full_attention"]}
_SCANS = {"layer_types": ["linear_attention", "full_attention"]}
_SHARES = {"num_hidden_layers": 4, "num_kv_shared_layers": 2}
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_DOTS3 = {
    "layer_types": ["indexed_attention", "sliding_attention"], "head_dim": 8,
    "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 16,
    "swa_kv_lora_rank": 16, "swa_head_dim": 12, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 8,
}  # fmt: skip
_QWEN4 = {
    "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8,
    "indexer_budget": _WINDOW, "indexer_compress_ratio": 4,
}  # fmt: skip

# What a type needs besides, or instead.
_OF_TYPE: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "big_bird": {"attention_type": "original_full"},  # the only one for decoders
    # Its cache asks for a number of layers, which the configuration has only if it is given.
    "blt": {"num_hidden_layers": 2, "encoder_hash_byte_group_vocab": 64},
    "cohere": {"logit_scale": 1.0},
    "cohere2": {"logit_scale": 1.0},
    "cohere2_moe": {"logit_scale": 1.0},
    "cohere_compass_text": _SLIDES | {"rope_parameters": {
        "sliding_attention": _ROPE, "full_attention": _ROPE,
    }},
    "dbrx": {"attn_config": {"clip_qkv": 8.0, "rope_theta": 1e4}},  # fails on its own defaults
    "deepseek_v4": {
        "num_key_value_heads": 1, "index_topk": 4,
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
    },
    "dory": _SLIDES | {"num_hidden_layers": 4, "n_input_layers": 1, "n_output_layers": 1},
    "dots1": _SLIDES,
    "dots3_note": {"text_config": _DOTS3},
    "dots3_note_text": _DOTS3,
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma2": _EAGER,
    "gemma3n_text": _SHARES,
    "gemma4_unified_assistant": {"text_config": _SHARES},
    "glm_moe_dsa": {"indexer_types": ["full", "shared"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": _SCANS,
    # It counts a layer once for each pass through it: 1 in a stack, 2 * (3 + 1) passes.
    "hrm_text": {"num_layers_per_stack": 1, "num_hidden_layers": 8},
    "inkling2_loop_text": {
        "num_hidden_layers": 4, "n_layers_per_attn_res_block": 1, "loop_layer_index_start": 1,
        "loop_layer_index_end": 3,
    },
    "inkling_text": {"logits_mup_width_multiplier": 1.0},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "laguna": _SLIDES,
    "lfm2": _CONVOLVES,
    "lfm2_moe": _CONVOLVES,
    "longcat_flash": {"head_dim": 4},
    "mamba2": {"head_dim": 16},
    "mellum": _SLIDES,
    "minicpm3": {"dim_model_base": 32},
    "minimax_m3_vl_text": {"layer_types": ["full_attention", "minimax_m3_sparse"]},
    "ministral": _SLIDES,
    "mllama": {"text_config": {"num_hidden_layers": 3, "cross_attention_layers": [1]}},
    "qwen2": _MAY_SLIDE,
    "qwen2_moe": _MAY_SLIDE,
    "qwen3": _MAY_SLIDE,
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {"num_hidden_layers": 3, "w_init_variance_scale": 32 * _SPREAD**2},
    "reformer": {"axial_pos_embds": False, "attn_layers": ["local", "lsh"], "hash_seed": 0},
    "smollm3": _MAY_SLIDE,
    "vaultgemma": _EAGER,
    "xlm": {"causal": True},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},  # fails unless half of it divides by 64
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid", "hybrid"], "n_mamba_heads": 2},
    "zaya": {
        "num_experts_per_tok": 1, "sliding_window": _WINDOW,
        "layer_types": ["hybrid", "hybrid_sliding"],
    },
}  # fmt: skip


def decoder(model_type: str, **overrides: Any) -> PreTrainedModel:
    """The same model at each call; overrides are those of `config`."""
    made = config(model_type, **overrides)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(made).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            # Some types set weights to zero, or to a spread of their own.
            drawn = weights.dim() > 1 or name.endswith("sinks")
            if drawn and weights.abs().max() < _SPREAD:
                weights.normal_(0, _SPREAD)
    return model


def config(model_type: str, **overrides: Any) -> PreTrainedConfig:
    """A small configuration. A dict overrides fields of a configuration inside it."""
    kind = CONFIG_MAPPING[model_type]
    return kind(**_fields(kind, _merged(_OF_TYPE.get(model_type, {}), overrides)))


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    both = {name for name in first.keys() & second.keys() if isinstance(second[name], dict)}
    return first | second | {name: _merged(first[name], second[name]) for name in both}


def _fields(kind: type[PreTrainedConfig], given: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    default = vars(kind())
    small = {
        name: value
        for name, value in _SMALL.items()
        if name in names and not (name in _ABSENT_IF_NONE and default[name] is None)
    }
    small |= {name: 0.0 for name in names if "drop" in name and isinstance(default[name], float)}
    if "kv_lora_rank" in names:  # keys and values of each head come from one compressed vector
        small["num_key_value_heads"] = small["num_attention_heads"]
        small.pop("head_dim", None)
    inside = {
        name: type(part)(**_fields(type(part), given.get(name, {})))
        for name, part in default.items()
        if isinstance(part, PreTrainedConfig)
    }
    return small | given | inside | _layers(names, default, given)


def _layers(names: set[str], default: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """As few layers as have one of each kind, in the order in which the kinds first occur."""
    kinds = {
        name: given.get(name) or list(dict.fromkeys(default[name]))
        for name in _LISTED_BY_LAYER
        if name in names and (given.get(name) or default[name])
    }
    if not kinds:
        return {}
    count = given.get("num_hidden_layers", max(2, *map(len, kinds.values()), 0))
    listed = {name: (of * count)[:count] for name, of in kinds.items()}
    return listed | {"num_hidden_layers": count}
