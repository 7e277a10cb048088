"""Models that are told the language: which token, which adapters, in one language, in mixtures, and of what data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from transformers import AutoModel, MBart50Tokenizer, MBartTokenizer, NllbTokenizer

from lnsub.analysis.parallel.embedding import SentenceEncoder
from lnsub.common.errors import UserError
from lnsub.data.batching import BatchRows
from lnsub.models.languages import adapter_of, set_default_language, tokenizer_of
from lnsub.models.pretrained import load_model
from lnsub.tasks.xnli import XNLI, decoder_inputs
from tests.support.tiny_checkpoints import VOCABULARY, WORDS, save_tiny

ENGLISH, FRENCH = "the cat sat", "a dog ran"


@pytest.fixture
def rows(tmp_path: Path, cache: Path) -> str:
    """Pairs in two languages."""
    for language, text in (("en", ENGLISH), ("fr", FRENCH)):
        path = tmp_path / "data" / language / "train.jsonl"
        path.parent.mkdir(parents=True)
        pairs = ({"premise": f"{text} {WORDS[i]}", "hypothesis": text, "label": i % 3} for i in range(6))
        path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return str(tmp_path / "data")


def _save_mbart(folder: Path, kind: Any = MBartTokenizer) -> str:
    pieces = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *(f"▁{word}" for word in VOCABULARY[11:]),
        "▁",
        *"abcdefghijklmnopqrstuvwxyz",
    ]
    tokenizer = kind(vocab=[(piece, -float(place)) for place, piece in enumerate(pieces)])
    settings = {"vocab_size": len(tokenizer), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    save_tiny(folder, "mbart", **settings)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _save_mbart_50(folder: Path) -> str:
    return _save_mbart(folder, MBart50Tokenizer)


def _save_nllb(folder: Path) -> str:
    letters = ["▁", *"abcdefghijklmnopqrstuvwxyz:"]
    vocab = {piece: place for place, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters])}
    tokenizer = NllbTokenizer(vocab=vocab, merges=[])
    settings = {"vocab_size": len(tokenizer), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    save_tiny(folder, "m2m_100", **settings)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("save", "english", "french"),
    [(_save_mbart, "en_XX", "fr_XX"), (_save_mbart_50, "en_XX", "fr_XX"), (_save_nllb, "eng_Latn", "fra_Latn")],
)
def test_each_part_of_a_mixture_is_marked_with_its_language_and_targets_with_english(
    save, english, french, tmp_path, rows
):
    base = save(tmp_path / "base")
    data = XNLI(language="en+fr", tokenizer=base, dataset=rows, max_length=64, batch_size=12)
    tokenizer = tokenizer_of(base, "en")
    codes = dict(zip((english, french), tokenizer.convert_tokens_to_ids([english, french]), strict=True))
    table = data.table("train")
    seen = {english: 0, french: 0}
    for row in table:
        text = tokenizer.decode(row["input_ids"], skip_special_tokens=True).replace(" ", "")
        code = english if "thecatsat" in text else french
        seen[code] += 1
        assert [token for token in row["input_ids"] if token in codes.values()] == [codes[code]]
        assert [token for token in row["labels"] if token in codes.values()] == [codes[english]]
    assert seen == {english: 6, french: 6}
    # What the decoder reads starts as in pre-training: with the language (mBART), or the end and then the language.
    model, _ = data.task.build(base)
    batch = data.train_dataloader().dataset[BatchRows(0, np.arange(3))]
    first = decoder_inputs(model, batch["labels"])[:, 0]
    assert set(first.tolist()) == {codes[english] if save is _save_mbart else tokenizer.eos_token_id}
    logits = F.one_hot(batch["labels"].clamp(min=0), len(tokenizer)).float()  # of a model that is always right
    assert logits.shape == data.task.forward(model, batch).shape
    assert all(row["label"] == row["prediction"] for row in data.task.decode(logits, batch))


def test_a_pair_goes_through_the_adapters_of_its_own_language_also_in_a_mixture(tmp_path, rows):
    base = str(save_tiny(tmp_path / "base", "xmod"))
    data = XNLI(language="en+fr", tokenizer=base, dataset=rows, max_length=24, batch_size=12)
    model, _ = data.task.build(base)
    batch = data.train_dataloader().dataset[BatchRows(0, np.arange(12))]
    assert sorted(batch["lang_ids"].tolist()) == [0] * 6 + [1] * 6
    with torch.no_grad():
        before = data.task.forward(model.eval(), batch)
        for layer in model.base_model.encoder.layer:
            layer.output.adapter_modules["fr_XX"].dense2.weight.normal_(std=5)
        after = data.task.forward(model, batch)
    changed = (before != after).any(1)
    assert changed.tolist() == (batch["lang_ids"] == 1).tolist()


def test_codes_are_of_two_letters_or_the_models_own(tmp_path):
    base = _save_nllb(tmp_path / "nllb")
    for given, found in (("sw", "swh_Latn"), ("zh", "zho_Hans"), ("fra_Latn", "fra_Latn"), ("fra", "fra_Latn")):
        assert tokenizer_of(base, given).src_lang == found
    adapters = str(save_tiny(tmp_path / "xmod", "xmod"))
    assert (adapter_of(adapters, "fr"), adapter_of(adapters, "en_XX"), adapter_of(base, "fr")) == (1, 0, None)
    for find, name in ((tokenizer_of, base), (adapter_of, adapters)):
        with pytest.raises(UserError, match=r"has no code for 'tlh': use a language that it knows, such as"):
            find(name, "tlh")


def test_sentences_are_embedded_in_their_language(tmp_path):
    encoder = SentenceEncoder(str(save_tiny(tmp_path / "base", "xmod")), "cpu")
    for layer in encoder._encoder.encoder.layer:
        layer.output.adapter_modules["fr_XX"].dense2.weight.data.normal_(std=5)
    english, french = (encoder.embed(encoder.tokenise([ENGLISH], code), (2,)) for code in ("en", "fr"))
    assert not torch.allclose(english, french)


def test_an_exported_model_with_adapters_uses_those_of_the_tickets_language(tmp_path):
    base = str(save_tiny(tmp_path / "base", "xmod"))
    made = {}
    for language in ("fr", "en+fr"):
        model, _ = load_model(AutoModel, base, init="pretrained", attention="sdpa")
        set_default_language(model, base, language)
        made[language] = model.config.default_language
    assert made == {"fr": "fr_XX", "en+fr": None}
    other, _ = load_model(AutoModel, str(save_tiny(tmp_path / "bert", "bert")), init="pretrained", attention="sdpa")
    set_default_language(other, str(tmp_path / "bert"), "fr")
    assert not hasattr(other.config, "default_language")
