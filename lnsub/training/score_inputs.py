"""What a score of :class:`~lnsub.training.imp.IMPCallback` is computed from, gathered between two fits."""

from typing import cast

from lightning.pytorch import Trainer
from torch import Tensor

from lnsub.common.lookup import lookup
from lnsub.models.prunable import input_axes
from lnsub.models.subnet import Weights
from lnsub.pruning.scores import SCORES, ScoreInputs
from lnsub.pruning.sharding import Ranks
from lnsub.tasks.task import LanguageDataModule
from lnsub.training.callbacks import RunCallback
from lnsub.training.collector import Collector
from lnsub.training.module import SubnetModule
from lnsub.training.samples import Sample, SampleBatches


def collect_inputs(
    name: str,
    trainer: Trainer,
    module: SubnetModule,
    datamodule: LanguageDataModule,
    theta_0: Weights,
    sample: Sample,
) -> ScoreInputs:
    """Gathers what a score needs. All ranks call it together, between two fits.

    Args:
        name: a key of :data:`~lnsub.pruning.scores.SCORES`.
        trainer: the run's trainer. Its callbacks hear of the progress.
        module: the model; outside of a run Lightning leaves it on the CPU, so it is moved to the device and back.
        datamodule: the data.
        theta_0: a snapshot of the base model.
        sample: the examples and their labels, for a score that reads data.

    Returns:
        The weights and what else the score needs, on the module's device before the call; all of it sharded as the
        weights are, except for activations, which are whole on every rank.

    Raises:
        UserError: there is no such score; or the loss depends on none of the weights that it needs gradients of.
    """
    needs = lookup("score", name, SCORES).needs
    init = module.subnet.prunable_of(theta_0) if "init" in needs else None
    measured: dict[str, dict[str, Tensor]] = {}
    if SCORES[name].reads_data:
        home = module.device
        module.to(trainer.strategy.root_device).eval()
        module.zero_grad(set_to_none=True)
        try:
            means = _collector(name, trainer, module, datamodule, sample).collect().means()
            measured = {
                what: {parameter: tensor.to(home, copy=True) for parameter, tensor in tensors.items()}
                for what, tensors in means.items()
            }
        finally:
            module.zero_grad(set_to_none=True)
            module.to(home).train()
    # Taken last, as moving a module may replace its parameters.
    weights = {weight: tensor.detach() for weight, tensor in module.subnet.weights.items()}
    return ScoreInputs(weights=weights, init=init, inputs=input_axes(module.model), seed=module.seed, **measured)


def _collector(
    name: str, trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule, sample: Sample
) -> Collector:
    """One pass over this rank's part of the sample: all of it, where ranks share a model's rows."""

    def report(done: int, total: int) -> None:
        for callback in trainer.callbacks:
            if isinstance(callback, RunCallback):
                callback.on_examples_scored(trainer, done, total)

    def reduce(tensor: Tensor) -> Tensor:
        return cast(Tensor, trainer.strategy.reduce(tensor, reduce_op="sum"))

    sharded = Ranks.sharing(module.subnet.weights.values()).group is not None
    share = slice(None) if sharded else slice(trainer.global_rank, None, trainer.world_size)
    batches = SampleBatches(datamodule, module.seed, sample.examples, share)
    return Collector(name, SCORES[name].needs, module, batches, labels=sample.labels, reduce=reduce, progress=report)
