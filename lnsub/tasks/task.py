"""What a task is.

A new task is one file with two classes: a :class:`Task` (its facts, head, forward, metrics) and a
:class:`LanguageDataModule` (which columns, how a row becomes token ids). Tasks know nothing of pruning.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)
from torchmetrics import MetricCollection
from transformers import PreTrainedModel

from lnsub.data.batching import IGNORED
from lnsub.data.module import LanguageRows
from lnsub.models.languages import LANG_IDS
from lnsub.models.packing import SLOTS, is_packed
from lnsub.models.pretrained import Dtype, Init

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", LANG_IDS)


@dataclass(frozen=True)
class Task(ABC):
    """What a task asks of a model. Small and picklable: it holds no data and no weights.

    Args:
        tokenizer: the base model's folder or name on the Hub; :meth:`decode` may need its tokenizer.
    """

    tokenizer: str

    name: ClassVar[str]
    """Name in run folders and records."""
    title: ClassVar[str]
    """What figures and tables call it."""
    metric: ClassVar[str]
    """Key of the main metric in :meth:`metrics`."""
    metric_title: ClassVar[str]
    """What figures and tables call the main metric."""
    higher_is_better: ClassVar[bool] = True
    """The main metric's direction."""
    chance: ClassVar[float | None] = None
    """The main metric of a model that has learnt nothing of its inputs; None where there is no telling."""
    dataset: ClassVar[str]
    """The data set on the Hub that is used unless another is named."""
    labels: ClassVar[tuple[str, ...]] = ()
    """The labels' names in the order of their numbers; none for a task that predicts tokens."""
    counted: ClassVar[tuple[str, ...]] = ()
    """Names of what :meth:`counts` counts; none for a task that does not count by example."""
    denominators: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Of each metric that is a share or a mean: the one of :attr:`counted` that it is a share or a mean of."""
    added: ClassVar[frozenset[str]] = frozenset()
    """Metrics that earlier versions did not record: a run is complete without them."""
    auto_class: ClassVar[str]
    """The class of transformers that loads an exported model of an encoder."""
    pipeline: ClassVar[str]
    """The pipeline of transformers, and of the Hub, that runs such a model."""

    @abstractmethod
    def build(
        self, base_model: str, *, init: Init = "pretrained", attention: str = "sdpa", dtype: Dtype = "float32"
    ) -> tuple[PreTrainedModel, frozenset[str]]:
        """Loads the base model with this task's head.

        Args:
            base_model: folder or name on the Hub.
            init: ``pretrained``, or ``random`` for fresh weights throughout.
            attention: ``packed`` (see :mod:`lnsub.models.packing`), or transformers' name of an attention
                implementation.
            dtype: the dtype of the weights.

        Returns:
            The model, and the names of its parameters that the checkpoint lacked. Those were drawn from torch's
            global random state: seed it first.

        Raises:
            UserError: there is no such model, or it cannot have this head.
        """

    @abstractmethod
    def forward(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Runs the model.

        Args:
            model: what :meth:`build` returned.
            batch: one batch of the task's data module.

        Returns:
            Logits [..., classes], aligned with ``batch["labels"]`` [...].
        """

    @staticmethod
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy in nats over the labels that count: those other than :data:`IGNORED`."""
        return F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED)

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Returns fresh metrics; each takes ``update(logits, labels)`` and is exact when summed over processes."""

    def complete(self) -> tuple[str, ...]:
        """The metrics without which a measurement is not complete."""
        return tuple(str(name) for name in self.metrics() if name not in self.added)

    def counts(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor | None:
        """Counts what each example adds to the metrics, so that two models can be compared on the same examples.

        The main metric is a function of the columns' sums. It must not wait for the device.

        Args:
            logits: what :meth:`forward` returned.
            batch: the same batch.

        Returns:
            One row an example and one column for each of :attr:`counted`, float64 [batch, columns]; None where that is
            empty.
        """
        return None

    @abstractmethod
    def decode(self, logits: Tensor, batch: dict[str, Tensor]) -> list[dict[str, Any]]:
        """Turns logits into predictions.

        Args:
            logits: what :meth:`forward` returned.
            batch: the same batch.

        Returns:
            One JSON-able dict per example, with its ``index`` (row number in the split).
        """


class LanguageDataModule(LanguageRows):
    """The data of one task in one language; the arguments are those of :class:`~lnsub.data.module.LanguageRows`."""

    task_class: ClassVar[type[Task]]
    """What the data is for."""

    @cached_property
    def task(self) -> Task:
        """The task, for the base model that the data is tokenised for."""
        return self.task_class(self.tokenizer)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def default_dataset(self) -> str:
        """The task's own data set."""
        return self.task_class.dataset


def model_inputs(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the entries of a batch that are the model's keyword arguments."""
    packed = is_packed(model)
    return {key: batch[key] for key in (*MODEL_INPUTS, *([SLOTS] if packed else [])) if key in batch}
