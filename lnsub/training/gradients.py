"""The loss gradient that some scores need, over training batches, on all ranks."""

from lightning.pytorch import Trainer
from torch import Tensor

from lnsub.pruning.sharding import Ranks
from lnsub.tasks.task import LanguageDataModule
from lnsub.training.module import SubnetModule


def loss_gradients(
    trainer: Trainer, module: SubnetModule, datamodule: LanguageDataModule, batches: int
) -> dict[str, Tensor]:
    """The loss gradient of the prunable weights, summed over training batches of all ranks, without dropout.

    Between fits Lightning keeps the module on the CPU: it is moved to the device and back, as are the gradients.
    """
    home, device = module.device, trainer.strategy.root_device
    module.to(device).eval()
    module.zero_grad(set_to_none=True)
    loader = datamodule.train_dataloader()
    for index, batch in enumerate(loader):
        if index == batches:
            break
        moved = {name: tensor.to(device) for name, tensor in batch.items()}
        module.batch_loss(moved).backward()
    sharing = Ranks.sharing(module.subnet.weights.values())
    gradients = {}
    for name, weight in module.subnet.weights.items():
        assert weight.grad is not None
        if sharing.group is None:
            gradient = trainer.strategy.reduce(weight.grad, reduce_op="sum")
        else:  # the backward pass has already averaged over the ranks
            gradient = weight.grad * sharing.count
        gradients[name] = gradient.detach().to(home, copy=True)
    module.zero_grad(set_to_none=True)
    module.to(home).train()
    return gradients
