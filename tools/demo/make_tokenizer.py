"""Trains the tokenizer of the embedded model, and writes it with the model's configuration.

    python -m tools.demo.make_tokenizer --texts DIR --output lnsub/demo/model

``DIR`` has one folder per language with ``train.parquet`` (column ``text``) and ``validation.parquet`` for the report.

The tokenizer is a cased WordPiece (Schuster & Nakajima, "Japanese and Korean voice search", 2012; as in BERT) after
NFKC normalisation. On the same texts, Unigram yields 8 to 14 % more pieces per word in each of the ten languages that
are written with spaces.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, PreTrainedTokenizerFast

from lnsub.common.errors import UserError

LANGUAGES = ("ar", "de", "en", "es", "fa", "fr", "hi", "ru", "sw", "ur", "zh")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = 8_000
ALPHABET = 2_800
"""Distinct characters kept over all languages, most frequent first: about 1 % of Chinese characters become [UNK]."""
CHARACTERS = 450_000
"""Characters of text a language, equal for all so that each counts the same; Hindi has no more."""
MAX_LENGTH = 128
SEED = 0


@dataclass(frozen=True)
class Fertility:
    """How finely a tokenizer splits one language's texts.

    Attributes:
        language: the language's code.
        per_word: pieces per whitespace-separated word (meaningless for languages without spaces, such as Chinese).
        per_character: pieces per character.
        unknown: share of pieces that are [UNK], 0 to 1.
    """

    language: str
    per_word: float
    per_character: float
    unknown: float


def read_texts(folder: Path, language: str, split: str) -> list[str]:
    """Reads the passages of one language.

    Args:
        folder: the folder with one folder per language.
        language: the language's code.
        split: ``train`` or ``validation``.

    Returns:
        The passages in the file's order.

    Raises:
        UserError: the file is missing or has no column ``text``.
    """
    path = folder / language / f"{split}.parquet"
    if not path.is_file():
        raise UserError(
            f"No texts for {language!r}: {path} does not exist. Give --texts a folder with <language>/{split}.parquet."
        )
    frame = pd.read_parquet(path)
    if "text" not in frame:
        raise UserError(f"{path} has the columns {list(frame)} but none named 'text'.")
    return [str(text) for text in frame["text"]]


def sample(texts: Sequence[str], characters: int, seed: int = SEED) -> Iterator[str]:
    """Yields shuffled passages up to `characters` characters in total; the last one is truncated."""
    shuffled = list(texts)
    random.Random(seed).shuffle(shuffled)
    left = characters
    for text in shuffled:
        if left <= 0:
            return
        yield text[:left]
        left -= len(text)


def _reserved(words: Counter[str], alphabet: int) -> list[str]:
    """Returns the special tokens and the single-character pieces of the `alphabet` most frequent characters, in order.

    Ties are broken by code point; ``##x`` is listed only where x occurs inside a word.
    """
    counts: Counter[str] = Counter()
    inside: set[str] = set()
    for word, count in words.items():
        for character in word:
            counts[character] += count
        inside.update(word[1:])
    kept = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:alphabet])
    return [*SPECIAL_TOKENS, *kept, *(f"##{character}" for character in kept if character in inside)]


def train_tokenizer(
    texts: Iterable[str], vocabulary: int = VOCABULARY, alphabet: int = ALPHABET
) -> PreTrainedTokenizerFast:
    """Trains a cased WordPiece tokenizer with BERT's special tokens and token types.

    Args:
        texts: the passages to learn from.
        vocabulary: number of pieces, special tokens and single characters among them.
        alphabet: number of distinct characters to keep; others become [UNK].

    Returns:
        The tokenizer, [PAD] being id 0; a pair is encoded as ``[CLS] A [SEP] B [SEP]`` with token types 0 and 1. The
        same texts give the same tokenizer.
    """
    # Chinese characters become words: WikiANN labels them individually, so longer pieces would occur in pre-training
    # but never in fine-tuning.
    normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.BertNormalizer(
                clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=False
            ),
        ]
    )
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in texts:
        words.update(word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text)))

    # The trainer numbers single characters in the order of a randomly seeded hash table and breaks ties between merges
    # by those numbers. Reserved as special tokens, they keep the order given here, and every run gives the same pieces.
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    reserved = _reserved(words, alphabet)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        limit_alphabet=0,
        initial_alphabet=[piece for piece in reserved if len(piece) == 1],
        special_tokens=reserved,
        show_progress=False,
    )
    learner.train_from_iterator((" ".join([word] * count) for word, count in sorted(words.items())), trainer)

    tokenizer = Tokenizer(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def model_config(vocabulary: int = VOCABULARY) -> BertConfig:
    """Returns the embedded model's configuration: BERT with 4 layers of width 128 (about 1.8 M parameters)."""
    return BertConfig(
        architectures=["BertForMaskedLM"],
        vocab_size=vocabulary,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=MAX_LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        type_vocab_size=2,
        pad_token_id=0,
    )


def fertility(tokenizer: PreTrainedTokenizerFast, language: str, texts: Sequence[str]) -> Fertility:
    """Measures how finely `tokenizer` splits `texts` of one language; see :class:`Fertility`."""
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    pieces = sum(len(text.ids) for text in encoded)
    unknown = sum(text.ids.count(tokenizer.unk_token_id) for text in encoded)
    return Fertility(
        language=language,
        per_word=pieces / sum(len(text.split()) for text in texts),
        per_character=pieces / sum(len(text) for text in texts),
        unknown=unknown / pieces,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.make_tokenizer", description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=Path, required=True, help="folder with <language>/train.parquet, column text")
    parser.add_argument("--output", type=Path, required=True, help="folder for tokenizer*.json and config.json")
    options = parser.parse_args(arguments)
    try:
        passages = (
            text for language in LANGUAGES for text in sample(read_texts(options.texts, language, "train"), CHARACTERS)
        )
        tokenizer = train_tokenizer(passages)
        options.output.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(options.output)
        # Without indentation: a vocabulary with one piece per line is a third larger.
        tokenizer.backend_tokenizer.save(str(options.output / "tokenizer.json"), pretty=False)
        model_config(len(tokenizer)).save_pretrained(options.output)
        sys.stdout.write("language  pieces/word  pieces/character  unknown\n")
        for language in LANGUAGES:
            found = fertility(tokenizer, language, read_texts(options.texts, language, "validation"))
            sys.stdout.write(
                f"{language:8}  {found.per_word:11.2f}  {found.per_character:16.3f}  {found.unknown:7.2%}\n"
            )
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
