"""How many bytes of text a token spells: what makes losses comparable between languages and tokenizers."""

import re
from functools import lru_cache

import torch
from torch import Tensor

from lnsub.models.pretrained import load_tokenizer

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@lru_cache(maxsize=8)
def bytes_of_tokens(name: str) -> Tensor:
    """Returns the bytes in UTF-8 of the text that each token of a tokenizer spells; 0 for special tokens.

    Of a byte-level BPE (GPT-2, Qwen, Llama 3, BLOOM) a character of a token stands for one byte. Of a SentencePiece
    (Gemma, Llama 2, XGLM) ``▁`` is a space, and ``<0xE2>`` one byte. Of a WordPiece, and of whole words, a token has
    the space before it, unless it continues a word.

    For the first kind, and for Gemma, the sum over a text's tokens is the text's length in bytes. Others normalise the
    text (Unicode's forms, repeated spaces) or put a space before it: the sum is then that of the text as they spell it.

    Args:
        name: the model's folder or name on the Hub.

    Returns:
        int64 [tokens], on the CPU.
    """
    tokenizer = load_tokenizer(name)
    backend = tokenizer.backend_tokenizer
    steps = b"".join(part.__getstate__() for part in (backend.pre_tokenizer, backend.decoder) if part is not None)
    added, special = set(tokenizer.get_added_vocab().values()), set(tokenizer.all_special_ids)
    by_byte = b'"ByteLevel"' in steps
    kind = type(backend.model).__name__
    prefix = getattr(backend.model, "continuing_subword_prefix", None) or ""
    suffix = getattr(backend.model, "end_of_word_suffix", None) or ""

    def size(token: str, number: int) -> int:
        if number in special:
            return 0
        if number in added:
            return len(token.encode())
        if by_byte:
            return len(token)
        if kind in {"WordPiece", "WordLevel"}:
            continues = bool(prefix) and token.startswith(prefix)
            return len(token.removeprefix(prefix).encode()) if continues else 1 + len(token.encode())
        if _BYTE.fullmatch(token):
            return 1
        spelled = token.replace("▁", " ")
        if suffix and token.endswith(suffix):
            spelled = f"{spelled.removesuffix(suffix)} "
        return len(spelled.encode())

    found = torch.zeros(len(tokenizer), dtype=torch.int64)
    for token, number in tokenizer.get_vocab().items():
        if number < len(found):
            found[number] = size(token, number)
    return found


@lru_cache(maxsize=8)
def bytes_on_device(name: str, device: torch.device) -> Tensor:
    """Returns :func:`bytes_of_tokens` on a device, copied there once."""
    return bytes_of_tokens(name).to(device)
