"""The whole training step as one CUDA graph for each shape of batch: ``model.step: captured``.

Launched one by one, the some 900 kernels of a step take the host several times as long as they take the device; a graph
takes one launch. What a graph holds is fixed when it is recorded: addresses, shapes, numbers. So a batch is copied into
the tensors that the graph reads, the learning rate is a number on the device, and graphs are made anew in each fit,
whose optimizer is new. Lightning's loop stays as it is: ``training_step`` makes the whole step, and what Lightning
calls after it does nothing.

Dropout draws the same numbers as in an eager step: torch registers its default generator with every graph, which reads
seed and offset anew in each replay (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor

from lnsub.common.errors import UserError
from lnsub.common.torch_internals import copy_all
from lnsub.models.compiling import uses_cuda_graphs
from lnsub.models.packing import SLOTS
from lnsub.training.lightning_internals import loss_is_read
from lnsub.training.logging_setup import warn_once
from lnsub.training.sharded import ShardedStrategy

StepName = Literal["eager", "captured"]
"""How a training step runs: kernel by kernel, or as one CUDA graph."""

MOST_GRAPHS = 32
"""Graphs that a fit keeps. Each holds some MB of launches; all share the memory of their activations."""

_OF_GRADIENTS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")

_UNREAD = frozenset({"index", SLOTS})
"""What a batch has for predictions, and for packing, whose shape is another in each batch."""

Replay = Callable[[], Tensor]
"""Runs recorded work again; returns its loss, which the next replay overwrites."""


class Recorder(Protocol):
    """What records a step."""

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """Runs work as it will be recorded, without recording it."""

    def record(self, work: Callable[[], Tensor]) -> Replay:
        """Records work, without running it."""


class CudaRecorder:
    """Records CUDA graphs on a stream of its own, all in one pool of memory.

    Graphs may share their memory, as only one runs at a time and nothing that it leaves there is read after the next.
    """

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, work: Callable[[], Tensor]) -> Tensor:
        """Runs work on the stream that records: cuBLAS sets up its workspace for a stream on first use."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            loss = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return loss

    def record(self, work: Callable[[], Tensor]) -> Replay:
        """Records a graph; raises UserError for work that waits for the device."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads go on with what may not be recorded: they copy batches and checkpoints, and allocate.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                loss = work()
        except RuntimeError as error:
            first = error.__context__ or error  # ending a capture that has failed fails again
            if isinstance(first, torch.OutOfMemoryError):
                raise
            reason = str(first).splitlines()[0]
            raise UserError(f"model.step: captured does not work with this model ({reason}): use eager.") from error

        def replay() -> Tensor:
            graph.replay()
            return loss

        return replay


class CapturedStep:
    """A step that is recorded when a shape of batch occurs for the second time, and replayed from then on.

    The first time it runs kernel by kernel, which makes the optimizer's state and whatever libraries set up.

    Args:
        module: in a fit that has begun.
        recorder: records its steps.
    """

    def __init__(self, module: "CapturedTraining", recorder: Recorder) -> None:
        self._module = module
        self._recorder = recorder
        self._optimizer: torch.optim.Optimizer = module.trainer.optimizers[0]
        self._rates = [torch.zeros((), device=module.device) for _ in self._optimizer.param_groups]
        self._met: set[object] = set()
        self._graphs: dict[object, tuple[dict[str, Tensor], Replay]] = {}

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        """Makes one optimizer step; returns the loss, a tensor that the next step may overwrite."""
        for rate, group in zip(self._rates, self._optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])  # a launch with the number among its arguments: nothing is waited for
        batch = {name: tensor for name, tensor in batch.items() if name not in _UNREAD}
        shape = tuple((name, tensor.shape) for name, tensor in batch.items())
        if shape not in self._graphs:
            if shape not in self._met or len(self._graphs) == MOST_GRAPHS:
                if shape in self._met:
                    warn_once(
                        f"Only the first {MOST_GRAPHS} shapes of batch are captured, other steps are eager: "
                        "data.init_args.pad_to_multiple_of=16 limits the number of shapes."
                    )
                self._met.add(shape)
                return self._recorder.run(lambda: self._whole(batch))
            inputs = {name: tensor.clone() for name, tensor in batch.items()}
            self._graphs[shape] = inputs, self._recorder.record(lambda: self._whole(inputs))
        inputs, replay = self._graphs[shape]
        copy_all(list(inputs.values()), list(batch.values()))
        return replay()

    def _whole(self, batch: dict[str, Tensor]) -> Tensor:
        """All of a step, in the order in which Lightning calls its parts."""
        module, trainer, optimizer = self._module, self._module.trainer, self._optimizer
        # Lightning computes in the trainer's precision here, but calls what follows the forward pass outside of it.
        with torch.autocast(module.device.type, enabled=False):
            with trainer.precision_plugin.forward_context():
                loss = module.batch_loss(batch)
            loss.backward()
            module.on_before_optimizer_step(optimizer)
            module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
            with self._rates_on_device():
                optimizer.step()
            optimizer.zero_grad()  # so that a graph's gradients are free for the next one's
        return loss.detach()

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Has the optimizer read learning rates from the device, as a graph must.

        Only within a step, so that schedules and checkpoints see the numbers that those of an eager step are. torch
        wants ``capturable`` while it records, and warns of it otherwise.
        """
        groups = self._optimizer.param_groups
        before = [{name: group[name] for name in ("lr", "capturable")} for group in groups]
        recording = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
        try:
            for group, rate in zip(groups, self._rates, strict=True):
                group.update(lr=rate, capturable=recording)
            yield
        finally:
            for group, values in zip(groups, before, strict=True):
                group.update(values)


class CapturedTraining(LightningModule):
    """A Lightning module whose training step can be captured.

    Attributes:
        step_name: how a step is to run.
        compile_mode: torch.compile's mode, if any.
    """

    step_name: StepName = "eager"
    compile_mode: Any = None
    _captured: CapturedStep | None = None

    def batch_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch."""
        raise NotImplementedError

    def on_train_start(self) -> None:
        """Decides whether this fit's steps are captured; says why if they cannot be."""
        super().on_train_start()
        self._captured = None
        if self.step_name == "captured":
            if why := self.why_not_captured():
                warn_once(f"model.step: captured has no effect, steps are eager: {why}.")
            else:
                self._captured = CapturedStep(self, self.make_recorder())

    def on_train_end(self) -> None:
        """Drops the graphs, which are this fit's."""
        super().on_train_end()
        self._captured = None

    def make_recorder(self) -> Recorder:
        """What records this module's steps."""
        return CudaRecorder()

    def why_not_captured(self) -> str | None:
        """Why this fit's steps cannot be captured, as a clause; None: they can."""
        trainer = self.trainer
        (optimizer,) = trainer.optimizers
        looking = [
            type(callback).__name__
            for callback in trainer.callbacks
            if any(getattr(type(callback), hook) is not getattr(Callback, hook) for hook in _OF_GRADIENTS)
        ]
        reasons = {
            "trainer.strategy is sharded": isinstance(trainer.strategy, ShardedStrategy),
            "there is more than one process": trainer.world_size > 1,
            "trainer.accumulate_grad_batches is above 1": trainer.accumulate_grad_batches > 1,
            "the gradient scaler of trainer.precision=16-mixed waits for the device": trainer.precision == "16-mixed",
            "trainer.gradient_clip_algorithm is value": trainer.gradient_clip_algorithm == "value",
            "trainer.detect_anomaly waits for the device": torch.is_anomaly_enabled(),
            "model.optimizer is not adamw": not isinstance(optimizer, torch.optim.AdamW),
            "no two batches of model.attention=packed have one shape": getattr(self, "attention", "") == "packed",
            f"model.compile={self.compile_mode} makes CUDA graphs of its own, so use default": self.compile_mode
            is not None
            and uses_cuda_graphs(self.compile_mode),
            f"the callback {', '.join(looking)} looks at gradients": bool(looking),
            "there is no CUDA device": trainer.strategy.root_device.type != "cuda",
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    # What Lightning calls for a step, in this order ------------------------------------------------------------------

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Returns one batch's loss; where steps are captured, makes the whole step."""
        loss = self.batch_loss(batch) if self._captured is None else self._captured(batch)
        # Lightning takes longer to note a loss than a replay takes. Where none is written or looked at, it is spared.
        if self._captured is None or loss_is_read(self.trainer):
            self.log("train_loss", loss, batch_size=1)
        return loss

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Clears the gradients, which a captured step does itself."""
        if self._captured is None:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Makes the backward pass, which a captured step does itself."""
        if self._captured is None:
            super().backward(loss, *args, **kwargs)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Makes the optimizer's step, which a captured step does itself: then only ``training_step`` is called."""
        if self._captured is None or optimizer_closure is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        else:
            optimizer_closure()
