"""Models and their tokenizers by name, and what each is given that others have of themselves: attention, padding."""

import json
import logging
import os
import shutil

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoModelForTokenClassification

from lnsub.analysis.parallel.embedding import SentenceEncoder
from lnsub.common.errors import UserError
from lnsub.models.pretrained import load_model, load_tokenizer, tokenizer_fingerprint
from lnsub.models.transformers_internals import attention_of
from tests.support.tiny_checkpoints import save_tiny, save_tokenizer


def test_the_fingerprint_of_a_tokenizer_is_that_of_its_content(bert, tmp_path):
    before = tokenizer_fingerprint(bert)
    copy = shutil.copytree(bert, tmp_path / "copy")
    load_tokenizer(str(copy))("a", truncation=True, max_length=3, padding="max_length")
    assert tokenizer_fingerprint(str(copy)) == before
    changed = shutil.copytree(bert, tmp_path / "changed")
    text = (changed / "tokenizer.json").read_text(encoding="utf-8")
    (changed / "tokenizer.json").write_text(text.replace('"mat"', '"hat"'), encoding="utf-8")
    assert tokenizer_fingerprint(str(changed)) != before


@pytest.mark.parametrize(("given", "then"), [(None, "true"), ("false", "false")])
def test_tokenising_is_parallel_unless_the_user_says_otherwise(given, then, bert, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", given or "")
    if given is None:
        monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    load_tokenizer.cache_clear()
    load_tokenizer(bert)
    assert os.environ["TOKENIZERS_PARALLELISM"] == then


def _classifier(name: str, attention: str = "sdpa") -> torch.nn.Module:
    model, _ = load_model(
        AutoModelForSequenceClassification, name, init="pretrained", attention=attention, num_labels=3
    )
    return model.eval()


def test_a_model_without_sdpa_runs_eagerly_and_says_so_once(tmp_path, caplog):
    name = str(save_tiny(tmp_path / "bloom", "bloom"))
    caplog.set_level(logging.INFO, "lnsub")
    assert {attention_of(_classifier(name)) for _ in range(2)} == {"eager"}
    (told,) = (record.getMessage() for record in caplog.records if "sdpa" in record.getMessage())
    assert told == f"{name}: transformers has no sdpa attention for this model, so it runs with eager attention"
    assert attention_of(_classifier(str(save_tiny(tmp_path / "llama", "llama")))) != "eager"
    with pytest.raises(UserError, match="packed is for encoders"):
        _classifier(name, "packed")


@pytest.mark.parametrize("model_type", ["bloom", "gemma3", "gpt2", "qwen3_moe", "deberta-v2"])
def test_sentences_are_embedded_by_every_kind_of_model(model_type, tmp_path):
    encoder = SentenceEncoder(str(save_tiny(tmp_path / "base", model_type)), "cpu")
    sentences = ["the cat sat", "a dog ran on the mat"]
    together = encoder.embed(encoder.tokenise(sentences), range(encoder.layers + 1))
    alone = torch.cat([encoder.embed(encoder.tokenise([one]), range(encoder.layers + 1)) for one in sentences], 1)
    assert together.shape == (3, 2, 16)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "tokenizer", "padding"),
    [("qwen2", {"pad": "<mask>"}, 4), ("gpt2", {"pad": None}, 2), ("llama", {"pad": None}, 2)],
)
def test_a_decoder_classifies_by_the_last_token_before_the_padding_that_its_tokenizer_names(
    model_type, tokenizer, padding, tmp_path
):
    folder = save_tiny(tmp_path / "base", model_type, pad_token_id=None)
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] is None
    save_tokenizer(folder, **tokenizer)
    assert load_tokenizer(str(folder)).pad_token_id == padding
    model = _classifier(str(folder))
    text = [1, 11, 12, 13]
    short, long = torch.tensor([text]), torch.tensor([[*text, padding, padding], [1, 14, 15, 16, 17, 18]])
    with torch.no_grad():
        alone = model(input_ids=short, attention_mask=torch.ones_like(short)).logits
        padded = model(input_ids=long, attention_mask=torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6])).logits
    torch.testing.assert_close(padded[:1], alone)


def test_a_tokenizer_that_can_mark_neither_padding_nor_an_end_is_refused(tmp_path):
    folder = save_tiny(tmp_path / "base", "gpt2")
    save_tokenizer(folder, pad=None)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            settings = json.loads((folder / name).read_text())
            settings.pop("eos_token", None)
            (folder / name).write_text(json.dumps(settings))
    with pytest.raises(UserError, match="neither a padding token, which batches need, nor an end"):
        load_tokenizer(str(folder))


def test_the_models_own_limit_of_positions_counts(tmp_path):
    folder = save_tiny(tmp_path / "base", "bart", max_position_embeddings=32)
    save_tokenizer(folder)
    assert load_tokenizer(str(folder)).model_max_length == 32


def test_a_model_of_which_a_part_can_be_pruned_is_used_with_one_warning(tmp_path, caplog):
    name = str(save_tiny(tmp_path / "base", "funnel"))
    for auto_class in (AutoModelForTokenClassification, AutoModelForMaskedLM):
        load_model(auto_class, name, init="pretrained", attention="sdpa")
    (told,) = (record.getMessage() for record in caplog.records if "can be pruned" in record.getMessage())
    # Three layers of 4 matrices of 16 x 16 and 2 of 16 x 24, a layer of each kind above; r_kernel has 16 x 16.
    assert f"only {100 * (4 * 256 + 2 * 384) / (5 * 256 + 2 * 384):.1f} %" in told
    assert "decoder.layers.0.attention.r_kernel" in told
