"""Tiny models with the architectures that lnsub is for, made from their configurations: no download, a few kB."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert_config(vocab_size: int = 60, **settings: object) -> BertConfig:
    """A 2-layer, 16-wide BERT without dropout unless asked for."""
    values = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 3, **settings}
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        **values,
    )


def bert_classifier(seed: int = 0, **settings: object) -> BertForSequenceClassification:
    """A sequence classifier with seeded weights."""
    torch.manual_seed(seed)
    return BertForSequenceClassification(bert_config(**settings))


def save_checkpoint(folder: Path, words: list[str], *, seed: int = 0, dropout: float = 0.0, spare: int = 0) -> Path:
    """Writes a Hugging Face checkpoint with a word-level tokenizer that knows ``words``: a stand-in for mBERT.

    With ``spare`` words more, which occur in no data, a fit has fewer rows of embeddings than the model.
    """
    known = [*SPECIAL, *(f"spare{i}" for i in range(spare)), *dict.fromkeys(words)]
    vocab = {word: index for index, word in enumerate(known)}
    backend = Tokenizer(WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names).save_pretrained(folder)
    torch.manual_seed(seed)
    config = bert_config(len(vocab), hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    BertForMaskedLM(config).save_pretrained(folder)
    return folder
