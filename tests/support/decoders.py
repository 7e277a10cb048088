"""Tiny decoders with the architectures that people use, and byte-level or SentencePiece-like tokenizers for them."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    XGLMConfig,
)

TEXT = [
    "the cat sat on a mat and the dog ran home",
    "le chat noir, l'été à Paris",
    "猫坐在红色的垫子上",
    "Ann и кот дома",
]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "num_attention_heads": 4, "head_dim": 4}


def make_decoder(folder: Path, kind: str = "qwen3", *, seed: int = 0) -> str:
    """Writes a checkpoint of two layers, 16 wide, and its tokenizer.

    Args:
        folder: where.
        kind: ``qwen3`` (grouped queries), ``llama``, ``bloom``, ``gemma3``, ``xglm``.
        seed: of the weights.
    """
    tokenizer = make_tokenizer(folder, sentencepiece=kind in {"gemma3", "llama"}, start=kind in {"gemma3", "llama"})
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(decoder_config(kind, len(tokenizer))).save_pretrained(folder)
    return str(folder)


def decoder_config(kind: str, vocab_size: int) -> PretrainedConfig:
    """The configuration of a kind of decoder, with the tokenizer's special tokens."""
    ids = {"vocab_size": vocab_size, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    room: dict[str, Any] = {"max_position_embeddings": 128}
    if kind == "bloom":
        return BloomConfig(**ids, hidden_size=16, n_layer=2, n_head=4, hidden_dropout=0.0, attention_dropout=0.0)
    if kind == "xglm":
        small = {"d_model": 16, "num_layers": 2, "ffn_dim": 32, "attention_heads": 4, "dropout": 0.0}
        return XGLMConfig(**ids, **room, **small, attention_dropout=0.0)
    if kind == "gemma3":
        return Gemma3TextConfig(**ids, **room, **SMALL, num_key_value_heads=1, query_pre_attn_scalar=4)
    types = {"qwen3": Qwen3Config, "llama": LlamaConfig}
    return types[kind](**ids, **room, **SMALL, num_key_value_heads=2, tie_word_embeddings=kind == "qwen3")


def make_tokenizer(folder: Path, *, sentencepiece: bool, start: bool) -> PreTrainedTokenizerFast:
    """Writes a tokenizer of 300 or so pieces.

    Args:
        folder: where.
        sentencepiece: as Gemma's, with ``▁`` for a space and bytes for what it does not know; else as Qwen's, over
            bytes.
        start: whether it puts ``<s>`` before a text, and before the second of a pair.
    """
    backend = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True) if sentencepiece else BPE())
    settings: dict[str, Any] = {"vocab_size": 70 if sentencepiece else 330, "show_progress": False}
    if sentencepiece:
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        trainer = trainers.BpeTrainer(special_tokens=SPECIAL, limit_alphabet=30, **settings)
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(special_tokens=SPECIAL, initial_alphabet=alphabet, **settings)
    backend.train_from_iterator(TEXT * 3, trainer)
    if sentencepiece:  # the trainer knows no fallback
        learned = json.loads(backend.to_str())["model"]
        for byte in range(256):
            learned["vocab"][f"<0x{byte:02X}>"] = len(learned["vocab"])
        merges = [tuple(pair) for pair in learned["merges"]]
        backend.model = BPE(learned["vocab"], merges, unk_token="<unk>", byte_fallback=True)
    if start:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
        )
    names = dict(zip(["pad_token", "bos_token", "eos_token", "unk_token"], SPECIAL, strict=True))
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=128, model_input_names=["input_ids", "attention_mask"], **names
    )
    made.save_pretrained(folder)
    return made
