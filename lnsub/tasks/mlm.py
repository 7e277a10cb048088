"""Masked language modelling on running text: Wikipedia, as in Foroutan et al. (2022)."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import MetricCollection
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from lnsub.common.bounds import Count, Fraction, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.data.cache import Encoded, Encoder
from lnsub.data.rows import SUBSET_SEED, RowSource, open_rows
from lnsub.models.pretrained import Init, load_model, load_tokenizer, refuse_encoder_decoder
from lnsub.tasks.masking import MaskingCollator, cut_into_blocks
from lnsub.tasks.metrics import Accuracy, CrossEntropy, Perplexity
from lnsub.tasks.task import LanguageDataModule, Task, model_inputs

EVAL_MASK_SEED = 1810_04805
"""Seed of the masks of validation and test, the same in every run, so that their losses are comparable."""


HELD_OUT = 2000
"""The most documents that are held out for validation, unless another number is asked for."""


class MLMTask(Task):
    """Masked language modelling: the token behind each mask."""

    name = "mlm"
    title = "MLM"
    metric = "perplexity"
    metric_title = "perplexity"
    higher_is_better = False
    dataset = "wikimedia/wikipedia"
    auto_class = "AutoModelForMaskedLM"
    pipeline = "fill-mask"

    def build(
        self, base_model: str, *, init: Init = "pretrained", attention: str = "sdpa"
    ) -> tuple[PreTrainedModel, frozenset[str]]:
        """Loads the base model with its language-modelling head; see :meth:`Task.build`."""
        refuse_encoder_decoder(base_model, self.name)
        return load_model(AutoModelForMaskedLM, base_model, init=init, attention=attention)

    def forward(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Predicts the masked tokens, and only those.

        The projection to the vocabulary is the most expensive matrix of a small multilingual model. A hook on it
        keeps only the masked positions of its input [batch, length, hidden], about 15 % of them.

        Args:
            model: a masked language model whose output projection takes hidden states [batch, length, hidden].
            batch: ``positions`` [n] are the masked positions in the flattened [batch * length].

        Returns:
            Logits [n, vocabulary], aligned with ``labels`` [n].
        """
        positions = batch["positions"]

        def pick(projection: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (inputs[0].flatten(0, 1)[positions],)

        hook = model.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            logits: Tensor = model(**model_inputs(model, batch)).logits
        finally:
            hook.remove()
        # MobileBERT's head reads the projection's weight and never calls it.
        return logits if logits.dim() == 2 else logits.flatten(0, 1)[positions]

    def metrics(self) -> MetricCollection:
        """Returns the accuracy, the loss (nats) and the perplexity per masked token."""
        scores = {"accuracy": Accuracy(), "loss": CrossEntropy(), "perplexity": Perplexity()}
        return MetricCollection(scores, compute_groups=[["accuracy"], ["loss", "perplexity"]])

    def decode(self, logits: Tensor, batch: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Returns the masked positions of each block, the original tokens and those predicted."""
        tokenizer = load_tokenizer(self.tokenizer)
        width = batch["input_ids"].shape[1]
        positions = batch["positions"].tolist()
        labels = batch["labels"].tolist()
        tokens = [None if label == IGNORED else tokenizer.convert_ids_to_tokens(label) for label in labels]
        predicted = tokenizer.convert_ids_to_tokens(logits.argmax(-1).tolist())
        examples: list[dict[str, Any]] = [
            {"index": index, "positions": [], "tokens": [], "predictions": []} for index in batch["index"].tolist()
        ]
        for position, token, prediction in zip(positions, tokens, predicted, strict=True):
            if token is None:
                continue
            example = examples[position // width]
            example["positions"].append(position % width)
            example["tokens"].append(token)
            example["predictions"].append(prediction)
        return examples


class WikipediaMLM(LanguageDataModule):
    """Wikipedia, or any running text, for masked language modelling.

    Its column is ``text``, one document a row. Documents are tokenised, joined with a separator between them and cut
    into blocks of ``max_length`` tokens, which are the rows of batches; nothing is discarded. Where there is no
    validation split (Wikipedia on the Hub), a fixed 1 % of the documents are held out for it. Training masks are drawn
    anew in each epoch; those of validation and test are always the same.

    ``max_train_examples`` and ``max_eval_examples`` count documents, which differ in length from language to language.
    With limits of blocks every language has as much text.

    Args:
        snapshot: date of the Wikipedia dump on the Hub; ignored for a data folder.
        mlm_probability: share of a block's tokens that are predicted.
        max_train_blocks: use only this many blocks of the train split, of documents in a random order that is the same
            in every run; of a mixture, in all. None uses all.
        max_eval_blocks: the same for the validation and test splits; of a mixture, for each of its languages.
        max_held_out: the most documents that are held out.
    """

    task_class = MLMTask
    columns = ("text",)
    in_all = ("max_train_examples", "max_train_blocks")

    def __init__(
        self,
        *args: Any,
        snapshot: str = "20231101",
        mlm_probability: Fraction = 0.15,
        max_train_blocks: Count | None = None,
        max_eval_blocks: Count | None = None,
        max_held_out: Count = HELD_OUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_numbers(hints_of(WikipediaMLM), locals())
        self.snapshot = snapshot
        self.mlm_probability = mlm_probability
        self.max_train_blocks = max_train_blocks
        self.max_eval_blocks = max_eval_blocks
        self.max_held_out = max_held_out

    def settings(self) -> dict[str, Any]:
        """Returns the length, and how many documents are held out where that is not what it usually is."""
        held_out = {} if self.max_held_out == HELD_OUT else {"held_out": self.max_held_out}
        return {**super().settings(), **held_out}

    def most_rows(self, split: str) -> int | None:
        """Returns the limit of blocks."""
        return self.max_train_blocks if split == "train" else self.max_eval_blocks

    def open(self) -> RowSource:
        """Opens the documents; on the Hub, a configuration is named by snapshot and language."""
        return open_rows(self.dataset, self.language, self.columns, prefix=f"{self.snapshot}.")

    def choose(self, source: RowSource, split: str) -> tuple[str, Any]:
        """Holds documents of the train split out if there is no validation split."""
        if split == "test" or "validation" in source.splits():
            return super().choose(source, split)
        source.require("train")

        def chosen(count: int) -> NDArray[np.int64]:
            if count < 2:
                raise UserError(
                    f"{source.where('train')} has one document and there is no validation split, for which one of the"
                    " train split's is held out: give a validation split, or cut the text into several documents."
                )
            return held_out(count, validation=split == "validation", most=self.max_held_out)

        return "train", chosen

    def encoder(
        self, tokenizer: PreTrainedTokenizerBase, where: str, features: datasets.Features, left_out: Counter[str]
    ) -> Encoder:
        """Returns the function that cuts documents into blocks."""
        prefix, suffix = special_frame(tokenizer)
        separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        between = [] if separator is None else [separator]
        special = tuple(tokenizer.all_special_ids)

        def encode(batch: Mapping[str, Sequence[Any]], numbers: Sequence[int]) -> Encoded:
            for text, number in zip(batch["text"], numbers, strict=True):
                if not isinstance(text, str):
                    raise UserError(
                        f"{where}, row {number} (counting from 0): the text is {text!r:.100}, not a string."
                    )
            documents = tokenizer(
                list(batch["text"]), add_special_tokens=False, return_attention_mask=False, verbose=False
            )["input_ids"]
            blocks = cut_into_blocks(documents, self.max_length, prefix, suffix, between, special)
            return {"input_ids": blocks, "length": [len(block) for block in blocks]}

        return encode

    def encoded_features(self, tokenizer: PreTrainedTokenizerBase) -> datasets.Features:
        """Returns the types of the columns; a block's number is its position in the table, its labels come later."""
        return datasets.Features(
            {"input_ids": datasets.List(datasets.Value("int32")), "length": datasets.Value("int32")}
        )

    def collator(self, tokenizer: PreTrainedTokenizerBase, *, training: bool) -> MaskingCollator:
        """Returns the function that masks a batch's blocks: anew in each training epoch, otherwise always alike."""
        if tokenizer.mask_token_id is None:
            raise UserError(
                f"The tokenizer of '{self.tokenizer}' has no mask token: the mlm task needs a BERT-like model."
            )
        return MaskingCollator(
            pad_id=tokenizer.pad_token_id,
            multiple=self.pad_to_multiple_of,
            mask_id=tokenizer.mask_token_id,
            vocabulary=len(tokenizer),
            special=tuple(tokenizer.all_special_ids),
            probability=self.mlm_probability,
            seed=self.seed if training else EVAL_MASK_SEED,
            fixed=not training,
        )


def special_frame(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Returns the special tokens that the tokenizer puts before and after a single text."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], encoded["special_tokens_mask"]
    text = [i for i, flag in enumerate(special) if not flag]
    return ids[: text[0]], ids[text[-1] + 1 :]


def held_out(count: int, *, validation: bool, most: int = HELD_OUT) -> NDArray[np.int64]:
    """Returns the rows of a data set's only split that are for validation, or for training, in order.

    Args:
        count: rows in the split; 1 % of them, at least 1, are validation, the same in every run.
        validation: which of the two.
        most: the most rows that are validation.
    """
    size = min(most, max(1, math.ceil(count / 100)))
    order = np.random.default_rng(SUBSET_SEED).permutation(count)
    return np.sort(order[:size] if validation else order[size:])
