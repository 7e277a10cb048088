"""Masked language modelling on running text: Wikipedia, as in Foroutan et al. (2022)."""

from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from torchmetrics import MetricCollection
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from lnsub.common.bounds import Fraction, check_numbers, hints_of
from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.models.architecture import refuse_left_to_right
from lnsub.models.pretrained import Dtype, Init, load_model, load_tokenizer, refuse_encoder_decoder
from lnsub.tasks.counts import tokens_read
from lnsub.tasks.masking import MaskingCollator
from lnsub.tasks.metrics import Accuracy, CrossEntropy, Perplexity
from lnsub.tasks.running_text import Frame, RunningText, special_frame
from lnsub.tasks.task import Task, model_inputs

EVAL_MASK_SEED = 1810_04805
"""Seed of the masks of validation and test, the same in every run, so that their losses are comparable."""


class MLMTask(Task):
    """Masked language modelling: the token behind each mask."""

    name = "mlm"
    title = "MLM"
    metric = "perplexity"
    metric_title = "perplexity"
    higher_is_better = False
    dataset = "wikimedia/wikipedia"
    counted = ("correct", "nats", "tokens")
    denominators = MappingProxyType({"accuracy": "tokens", "loss": "tokens", "perplexity": "tokens"})
    auto_class = "AutoModelForMaskedLM"
    pipeline = "fill-mask"

    def build(
        self, base_model: str, *, init: Init = "pretrained", attention: str = "sdpa", dtype: Dtype = "float32"
    ) -> tuple[PreTrainedModel, frozenset[str]]:
        """Loads the base model with its language-modelling head; see :meth:`Task.build`."""
        refuse_encoder_decoder(base_model, self.name)
        refuse_left_to_right(base_model, self.name, instead="clm")
        return load_model(AutoModelForMaskedLM, base_model, init=init, attention=attention, dtype=dtype)

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

    def counts(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Counts each block's masked tokens: right, their summed cross-entropy in nats, and all."""
        block = batch["positions"] // batch["input_ids"].shape[1]
        return tokens_read(logits, batch["labels"], block, len(batch["index"]))

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


class WikipediaMLM(RunningText):
    """Wikipedia, or any running text, for masked language modelling.

    Blocks have the tokenizer's own special tokens around them and its separator between documents. Training masks are
    drawn anew in each epoch; those of validation and test are always the same.

    Args:
        mlm_probability: share of a block's tokens that are predicted.
    """

    task_class = MLMTask

    def __init__(self, *args: Any, mlm_probability: Fraction = 0.15, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_numbers(hints_of(WikipediaMLM), locals())
        self.mlm_probability = mlm_probability

    def frame(self, tokenizer: PreTrainedTokenizerBase) -> Frame:
        """Returns what the tokenizer puts around a text, and its separator."""
        separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
        return Frame(*special_frame(tokenizer), [] if separator is None else [separator])

    def collator(self, tokenizer: PreTrainedTokenizerBase, *, training: bool) -> MaskingCollator:
        """Returns the function that masks a batch's blocks: anew in each training epoch, otherwise always alike."""
        if tokenizer.mask_token_id is None:
            raise UserError(
                f"The tokenizer of '{self.tokenizer}' has no mask token: the mlm task needs a BERT-like model."
            )
        return MaskingCollator(
            pad_id=tokenizer.pad_token_id,
            multiple=self.multiple,
            widest=self.max_length,
            mask_id=tokenizer.mask_token_id,
            vocabulary=len(tokenizer),
            special=tuple(tokenizer.all_special_ids),
            probability=self.mlm_probability,
            seed=self.order_seed if training else EVAL_MASK_SEED,
            fixed=not training,
        )
