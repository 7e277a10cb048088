"""A tiny checkpoint of each architecture that lnsub is for: width 16, two layers, one tokenizer for all of them."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")
LANGUAGES = ("ar_AR", "en_XX", "fr_XX", "arb_Arab", "eng_Latn", "fra_Latn")
WORDS = ("the", "a", "cat", "dog", "sat", "ran", "on", "mat", "in", "Paris", "xnli", "premise", "hypothesis", ":")
LABELS = ("entailment", "neutral", "contradiction")
VOCABULARY = (*SPECIAL, *LANGUAGES, *WORDS, *LABELS)
SIZE = 32
"""Rows of the embeddings, a few more than there are tokens."""

_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}
_SHARED_BERT = {**_BERT, "type_vocab_size": 1, "max_position_embeddings": 66}
_LLAMA = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
_GEMMA = {**_LLAMA, "query_pre_attn_scalar": 8, "sliding_window": 8}
_BART = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
}
_T5 = {
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}

SETTINGS: dict[str, dict[str, Any]] = {
    # Encoders
    "albert": {**_BERT, "embedding_size": 8},
    "bert": _BERT,
    "camembert": _SHARED_BERT,
    "canine": {**_BERT, "num_hash_buckets": 32, "local_transformer_stride": 8, "downsampling_rate": 4},
    "deberta": {**_BERT, "type_vocab_size": 0, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {
        **_BERT,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 64},
    "electra": {**_BERT, "embedding_size": 8},
    "ernie": _BERT,
    "eurobert": _LLAMA,
    "funnel": {
        "d_model": 16,
        "n_head": 2,
        "d_head": 8,
        "d_inner": 24,
        "block_sizes": [2, 1],
        "block_repeats": [1, 1],
        "architectures": ["FunnelModel"],
        "num_decoder_layers": 1,
        "max_position_embeddings": 64,
    },
    "luke": {**_SHARED_BERT, "entity_vocab_size": 8, "entity_emb_size": 8},
    "mobilebert": {
        **_BERT,
        "embedding_size": 8,
        "intra_bottleneck_size": 8,
        "num_feedforward_networks": 2,
        "true_hidden_size": 8,
    },
    "modernbert": {
        **_BERT,
        "global_attn_every_n_layers": 2,
        "local_attention": 8,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
    "mpnet": _SHARED_BERT,
    "nomic_bert": _BERT,
    "rembert": {**_BERT, "input_embedding_size": 8, "output_embedding_size": 12},
    "roberta": _SHARED_BERT,
    "squeezebert": {
        **_BERT,
        "embedding_size": 16,
        **dict.fromkeys(("q_groups", "k_groups", "v_groups", "post_attention_groups"), 2),
        **dict.fromkeys(("intermediate_groups", "output_groups"), 2),
    },
    "xlm": {"emb_dim": 16, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 64, "n_langs": 3},
    "xlm-roberta": _SHARED_BERT,
    "xlm-roberta-xl": _SHARED_BERT,
    "xmod": {**_SHARED_BERT, "languages": ["en_XX", "fr_XX"], "adapter_reduction_factor": 2},
    # Encoder-decoders
    "bart": _BART,
    "m2m_100": _BART,
    "mbart": _BART,
    "mt5": _T5,
    "t5": _T5,
    "umt5": _T5,
    # Decoders
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
    "cohere": _LLAMA,
    "cohere2": {**_LLAMA, "sliding_window": 8},
    "gemma": _LLAMA,
    "gemma2": _GEMMA,
    "gemma3": {
        "text_config": {**_GEMMA, "vocab_size": SIZE, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1},
        "vision_config": {
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "image_size": 16,
            "patch_size": 8,
        },
        "mm_tokens_per_image": 4,
    },
    "gemma3_text": _GEMMA,
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "gpt_neox": {**_LLAMA, "num_key_value_heads": 2},
    "llama": _LLAMA,
    "mistral": {**_LLAMA, "sliding_window": 8},
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "xglm": {"d_model": 16, "num_layers": 2, "attention_heads": 2, "ffn_dim": 24, "max_position_embeddings": 64},
    # Mixtures of experts
    "mixtral": {**_LLAMA, **_EXPERTS},
    "qwen3_moe": {**_LLAMA, **_EXPERTS},
}
"""What makes each type tiny, by ``model_type``."""

_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "mask_token_id": 4}


def tiny_config(model_type: str, **settings: Any) -> PretrainedConfig:
    """The configuration of a tiny model of a type, without dropout."""
    values = {"vocab_size": SIZE, **_IDS, **SETTINGS[model_type], **settings}
    if model_type == "gemma3":
        values.pop("vocab_size")
    config = AutoConfig.for_model(model_type, **values)
    for part in (config, config.get_text_config()):
        for name, value in part.to_dict().items():
            if ("drop" in name) and isinstance(value, float):
                setattr(part, name, 0.0)
    return config


def save_tokenizer(folder: Path, *, pad: str | None = "<pad>", **settings: Any) -> None:
    """Writes a word-level tokenizer that frames texts with ``<s>`` and ``</s>``, as those of all these models may."""
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(VOCABULARY)}, unk_token="<unk>"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[("<s>", 1), ("</s>", 2)],
    )
    names = dict(
        zip(["bos_token", "eos_token", "unk_token", "mask_token"], SPECIAL[1:], strict=True),
        cls_token="<s>",
        sep_token="</s>",
    )
    if pad is not None:
        names["pad_token"] = pad
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        **names,
        **settings,
    )
    made.save_pretrained(folder)


def save_tiny(folder: Path, model_type: str, *, seed: int = 0, **settings: Any) -> Path:
    """Writes a whole checkpoint of a type: the bare model, and the shared tokenizer.

    Args:
        folder: where to.
        model_type: a key of :data:`SETTINGS`.
        seed: of the weights.
        settings: entries of the configuration beside the tiny ones.
    """
    torch.manual_seed(seed)
    AutoModel.from_config(tiny_config(model_type, **settings)).save_pretrained(folder)
    save_tokenizer(folder)
    config = folder / "config.json"
    written = json.loads(config.read_text())
    assert written["model_type"] == model_type
    return folder
