"""Tiny checkpoints, tokenizers and data folders for the tests of the tasks, and a datasets cache of their own."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertModel, MT5Config, MT5ForConditionalGeneration, PreTrainedTokenizerFast

from tests.support.models import SPECIAL, bert_config

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "a", "mat", "home", "red", "blue", "not", "and", "Paris", "Ann"]
PIECES = ["##s", "##ting", "##ed", "##er", "##ly"]


def make_bert(folder: Path) -> str:
    """A BERT checkpoint without any head, with token types; its tokenizer is a WordPiece."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = list(dict.fromkeys([*SPECIAL, *WORDS, *PIECES, ":", *letters, *(f"##{letter}" for letter in letters)]))
    backend = _wordpiece(vocabulary, "[UNK]")
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary.index("[CLS]")), ("[SEP]", vocabulary.index("[SEP]"))],
    )
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], SPECIAL, strict=True))
    _save_tokenizer(backend, folder, model_input_names=["input_ids", "token_type_ids", "attention_mask"], **names)
    torch.manual_seed(0)
    config = bert_config(len(vocabulary))
    config.max_position_embeddings = 128
    BertModel(config).save_pretrained(folder)
    return str(folder)


def make_mt5(folder: Path) -> str:
    """An mT5 checkpoint; its tokenizer cuts label words into pieces and ends with ``</s>``."""
    pieces = ["neutral", "entail", "contra", "##ment", "##diction", "xnli", "premise", "hypothesis", ":"]
    vocabulary = ["<pad>", "</s>", "<unk>", *pieces, *WORDS, *PIECES]
    backend = _wordpiece(vocabulary, "<unk>")
    backend.post_processor = TemplateProcessing(single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 1)])
    _save_tokenizer(
        backend,
        folder,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    torch.manual_seed(0)
    config = MT5Config(
        vocab_size=len(vocabulary),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    MT5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def write_rows(path: Path, columns: dict[str, Sequence[Any]], features: datasets.Features | None = None) -> None:
    """Writes columns of equal length as the file type that the suffix says; in csv and tsv, spaces separate a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1]
    if kind == "parquet":
        table = datasets.Dataset.from_dict(dict(columns), features=features).data.table
        pa.parquet.write_table(table, path)
        return
    if kind == "json":
        text = json.dumps(rows, ensure_ascii=False, indent=1)
    elif kind in ("jsonl", "ndjson"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        separated = [{k: " ".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
        text = _csv(list(columns), separated) if kind == "csv" else _tsv(list(columns), separated)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def _csv(names: list[str], rows: list[dict[str, Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _tsv(names: list[str], rows: list[dict[str, Any]]) -> str:
    return "".join("\t".join(map(str, line)) + "\n" for line in [names, *(list(row.values()) for row in rows)])


def pairs(count: int, language: str = "fr") -> dict[str, list[Any]]:
    """Columns of XNLI in one language, the labels in turn."""
    premises = [f"the cat sat on a {'red ' * (i % 7)}mat" for i in range(count)]
    return {"premise": premises, "hypothesis": [f"{language} cats ran"] * count, "label": [i % 3 for i in range(count)]}


def batches(loader: Any) -> Iterator[dict[str, torch.Tensor]]:
    """All batches of a loader, each checked for tensors of int64."""
    for batch in loader:
        assert all(tensor.dtype == torch.int64 for tensor in batch.values())
        yield batch


def _wordpiece(vocabulary: list[str], unknown: str) -> Tokenizer:
    backend = Tokenizer(WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token=unknown))
    backend.pre_tokenizer = Whitespace()
    backend.decoder = decoders.WordPiece()
    return backend


def _save_tokenizer(backend: Tokenizer, folder: Path, **settings: Any) -> None:
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=128, **settings).save_pretrained(folder)
