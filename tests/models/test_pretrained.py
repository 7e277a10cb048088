"""Names of models and their tokenizers. What is refused is tested with the tasks, which ask for it."""

import os
import shutil

import pytest

from lnsub.models.pretrained import load_tokenizer, tokenizer_fingerprint


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
