"""A panic of tokenizers is told from what ends a program."""

import json

import pytest
from tokenizers import Tokenizer

from lnsub.models.tokenizers_internals import is_panic


def test_a_panic_is_told_from_other_exceptions(bert):
    with open(f"{bert}/tokenizer.json", encoding="utf-8") as file:  # noqa: PTH123
        found = json.load(file)
    found["post_processor"]["special_tokens"] = {}
    with pytest.raises(BaseException, match="no entry found") as caught:
        Tokenizer.from_str(json.dumps(found)).encode("a")
    assert is_panic(caught.value)
    assert not is_panic(KeyboardInterrupt())
    assert not is_panic(KeyError("no entry found for key"))
