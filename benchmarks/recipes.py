"""Three ways to fine-tune the same sub-network: the authors' recipe, transformers' Trainer, and lnsub."""

import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.profilers import SimpleProfiler
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset
from transformers import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    get_linear_schedule_with_warmup,
)
from transformers import Trainer as TransformersTrainer

from benchmarks.turns import Steps
from lnsub.data.batching import IGNORED
from lnsub.models.pretrained import load_config, load_tokenizer
from lnsub.models.prunable import prunable
from lnsub.pruning.masks import Mask
from lnsub.pruning.selection import select
from lnsub.tasks.task import LanguageDataModule
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from lnsub.training.module import SubnetModule

TASKS: dict[str, type[LanguageDataModule]] = {"xnli": XNLI, "wikiann": WikiANN}
CLIP = 1.0  # the norm that gradients are clipped to


@dataclass(frozen=True)
class Spec:
    """The training setup that all recipes share.

    Attributes:
        task: key of :data:`TASKS`.
        base: folder of the base model.
        data: folder with ``fr/train.parquet`` and ``fr/validation.parquet``.
        cache: folder for tokenised rows.
        epochs: number of epochs.
        seed: seed of the head, of dropout and of the order of rows.
        learning_rate: peak learning rate, from which it falls linearly to 0.
        sparsity: sparsity of the base model's magnitude mask, which all recipes train under.
        batch: rows per batch.
        longest: length that the authors' recipe pads every row to; all recipes truncate longer rows.
    """

    task: str
    base: str
    data: str
    cache: str
    epochs: int = 10_000
    seed: int = 0
    learning_rate: float = 5e-5
    sparsity: float = 0.5
    batch: int = 32
    longest: int = 128

    def datamodule(self) -> LanguageDataModule:
        """The data, tokenised once for all recipes."""
        datasets.config.HF_DATASETS_CACHE = Path(self.cache)
        return TASKS[self.task](
            language="fr",
            tokenizer=self.base,
            dataset=self.data,
            batch_size=self.batch,
            max_length=self.longest,
            seed=self.seed,
        )

    def model(self) -> PreTrainedModel:
        """The base model with its head, re-parametrised by ``torch.nn.utils.prune`` under the mask."""
        torch.manual_seed(self.seed)
        model, _ = self.datamodule().task.build(self.base)
        mask = self.mask(model)
        for name, linear in prunable(model).items():
            prune.custom_from_mask(linear.module, "weight", mask[name].float())
        return model.train()

    def mask(self, model: nn.Module) -> Mask:
        """The magnitude mask of an untrained model."""
        weights = {name: linear.parameter.detach() for name, linear in prunable(model).items()}
        return select(
            weights, Mask({n: torch.ones_like(w, dtype=torch.bool) for n, w in weights.items()}), self.sparsity
        )


def authors(spec: Spec, steps: Steps) -> PreTrainedModel:
    """Trains like Chen et al. (2020) and Foroutan et al. (2022): padded to 128, float32, AdamW, float masks.

    Args:
        spec: the training setup.
        steps: called at each step.

    Returns:
        The trained model.
    """
    model = spec.model()
    columns = _padded(spec)
    loader = DataLoader(TensorDataset(*columns.values()), batch_size=spec.batch, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, spec.epochs * len(loader))
    steps.begin()
    for _ in range(spec.epochs):
        for batch in loader:
            model(**dict(zip(columns, batch, strict=True))).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            steps.done()
    return _plain(model)


def transformers_trainer(spec: Spec, bf16: bool, steps: Steps) -> PreTrainedModel:
    """Trains with transformers' Trainer and its defaults: random batches, each padded to its longest row.

    Args:
        spec: the training setup.
        bf16: its setting of that name: autocast; off by default.
        steps: called at each step.

    Returns:
        The trained model.
    """

    class Tell(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            steps.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            steps.done()

    data = spec.datamodule()
    tokenizer = load_tokenizer(spec.base)
    collator = DataCollatorWithPadding if spec.task == "xnli" else DataCollatorForTokenClassification
    model = spec.model()
    with tempfile.TemporaryDirectory() as folder:
        trainer = TransformersTrainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=spec.batch,
                num_train_epochs=spec.epochs,
                learning_rate=spec.learning_rate,
                max_grad_norm=CLIP,
                seed=spec.seed,
                bf16=bf16,
                use_cpu=True,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=data.table("train").remove_columns(["length", "index"]),
            data_collator=collator(tokenizer),
            callbacks=[Tell()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return _plain(model)


class WholeVocabulary(SubnetModule):
    """A module whose fits hold all embeddings, as those of other libraries do."""

    def setup(self, stage: str) -> None:
        """Leaves the vocabulary as it is."""


def lnsub(
    spec: Spec, precision: str, steps: Steps, *, module_class: type[SubnetModule] = SubnetModule
) -> PreTrainedModel:
    """Trains like ``lnsub fit`` under a ticket: its module and data module in a Lightning trainer.

    Args:
        spec: the training setup.
        precision: the trainer's precision; lnsub's configurations use ``bf16-mixed``.
        steps: called at each step.
        module_class: the module's class.

    Returns:
        The trained model.
    """

    class Tell(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            steps.begin()

        def on_train_batch_end(self, *_: Any) -> None:
            steps.done()

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    seed_everything(spec.seed, verbose=False)
    data = spec.datamodule()
    module = module_class(data.task, spec.base, learning_rate=spec.learning_rate, seed=spec.seed)
    module.subnet.set_mask(spec.mask(module.model))
    profiler = SimpleProfiler()
    steps.waited = lambda: sum(profiler.recorded_durations["[_TrainingEpochLoop].train_dataloader_next"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=spec.epochs,
            precision=precision,
            gradient_clip_val=CLIP,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
            logger=CSVLogger(folder),
            log_every_n_steps=20,
            profiler=profiler,
            callbacks=[Tell()],
        )
        trainer.fit(module, datamodule=data)
    return module.model


def lnsub_whole(spec: Spec, precision: str, steps: Steps) -> PreTrainedModel:
    """:func:`lnsub` with the whole vocabulary in every step."""
    return lnsub(spec, precision, steps, module_class=WholeVocabulary)


def config_of(spec: Spec) -> Any:
    """The base model's configuration."""
    return load_config(spec.base)


def score(spec: Spec, model: PreTrainedModel) -> float:
    """The task's main metric of a trained model on the validation split, in float32."""
    data = spec.datamodule()
    metrics = data.task.metrics()
    model.eval()
    with torch.inference_mode():
        for batch in data.val_dataloader():
            metrics.update(data.task.forward(model, batch), batch["labels"])
    return float(metrics.compute()[data.task.metric])


def _padded(spec: Spec) -> dict[str, Tensor]:
    """All rows padded to one length, by model argument."""
    table = spec.datamodule().table("train").with_format(None)
    fills = {"input_ids": load_tokenizer(spec.base).pad_token_id, "token_type_ids": 0, "labels": IGNORED}
    columns = {name: list(table[name]) for name in fills if name in table.column_names}
    columns["attention_mask"] = [[1] * len(row) for row in columns["input_ids"]]
    return {
        name: torch.tensor(
            [row + [fills.get(name, 0)] * (spec.longest - len(row)) for row in rows]
            if isinstance(rows[0], list)
            else rows
        )
        for name, rows in columns.items()
    }


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """Removes the re-parametrisation; pruned weights stay 0."""
    for linear in prunable(model).values():
        prune.remove(linear.module, "weight")
    return model
