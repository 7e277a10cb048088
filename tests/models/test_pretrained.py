"""Loading what base models consist of. What is refused is tested with the tasks, which ask for it."""

import os

import pytest

from lnsub.models.pretrained import load_tokenizer


@pytest.mark.parametrize(("given", "then"), [(None, "true"), ("false", "false")])
def test_tokenising_is_parallel_unless_the_user_says_otherwise(given, then, bert, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", given or "")
    if given is None:
        monkeypatch.delenv("TOKENIZERS_PARALLELISM")
    load_tokenizer.cache_clear()
    load_tokenizer(bert)
    assert os.environ["TOKENIZERS_PARALLELISM"] == then
