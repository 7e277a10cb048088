"""Errors as one line, made from what Lightning and the system raise."""

from pathlib import Path

import pytest
import torch

from lnsub.common.error_messages import user_message
from lnsub.common.errors import UserError


def test_an_error_of_the_system_names_its_file():
    with pytest.raises(OSError) as raised:
        Path("no-such-file").read_text()
    assert (user_message(raised.value) or "").endswith("no-such-file")


def test_a_users_error_is_found_below_what_wraps_it_and_a_bug_is_none_of_the_users():
    error = ValueError("wrapped")
    error.__cause__ = UserError("the\nreason")
    assert user_message(error) == "the reason"
    assert user_message(ZeroDivisionError("a bug")) is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    ],
    ids=["of Python", "of a GPU", "of torch"],
)
def test_a_full_memory_is_one_sentence(error):
    message = user_message(error)
    assert message is not None
    assert message.startswith("There is not enough memory")
    assert "\n" not in message
