"""A Hugging Face model folder with a sub-network's weights: rewound (theta_0 under the mask) or fine-tuned."""

import copy
import os
import secrets
import shutil
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lnsub.common.errors import UserError
from lnsub.common.files import write_errors
from lnsub.common.lookup import lookup
from lnsub.export.model_card import Card, Training, model_card
from lnsub.export.shrinking import Shrunk, shrink
from lnsub.models.heads import is_added
from lnsub.models.languages import set_default_language
from lnsub.models.pretrained import load_config, load_tokenizer, quiet
from lnsub.models.vocabulary import unnarrowed
from lnsub.runs.records import FILE_NAME, read
from lnsub.tasks import tasks
from lnsub.tasks.task import Task
from lnsub.tickets.ticket import Ticket
from lnsub.training.checkpoint_files import DamagedError, misfit, read_checkpoint
from lnsub.training.module import SubnetModule

TICKET_FILE = "ticket.safetensors"
"""The ticket itself in the folder: which weights are pruned cannot be told from zeros alone."""


def export(
    ticket: str | Path,
    output: str | Path,
    *,
    base_model: str | None = None,
    checkpoint: str | Path | None = None,
    task: str | None = None,
    name: str | None = None,
    smaller: bool = False,
) -> Path:
    """Writes a model folder, complete or not at all.

    The folder loads with plain ``from_pretrained`` and gives the same predictions to the last bit. It holds the model
    (``model.safetensors``, float32, pruned weights exactly 0), the tokenizer, the ticket and a model card.

    Args:
        ticket: a ticket file, here or on the Hugging Face Hub (``hf://``).
        output: the folder; it must be empty or not exist yet.
        base_model: a Hub id or a folder with the base model; None takes the one that the ticket names.
        checkpoint: ``checkpoints/last.ckpt`` of a fit under this ticket, whose fine-tuned weights are taken; None takes
            theta_0, with the task head, and a pooler that the base model lacks, as the ticket's seed draws them.
        task: the name of a task, which decides on the head; None takes the ticket's.
        name: what the model card calls the model: the repository that it is meant for; None takes the folder's name.
        smaller: write the smaller dense model that a ticket of neurons or heads stands for, with the same logits.

    Returns:
        The folder.

    Raises:
        UserError: the folder is not empty; the base model is not the ticket's; the checkpoint is of another
            model, of another ticket, or holds no trained weights; there is no such task; or no smaller model stands
            for the ticket.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} already exists and is not an empty folder: name another one for --output")
    found = Ticket.load(ticket)
    head = _head(found, task)
    module = _module(found, head, base_model)
    training = None if checkpoint is None else _fine_tune(module, found, Path(checkpoint))
    shrunk = shrink(module.model, module.subnet, found) if smaller else None
    # Beside the output, so that moving it there is one step.
    place = output.resolve()
    part = place.with_name(f".{place.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with write_errors(output):
            part.mkdir(parents=True)
            if shrunk is None:
                _save_model(module.model, part, module.subnet.state())
            else:
                _save_model(shrunk.model, part, shrunk.model.state_dict())
            _save_tokenizer(module.base_model, part)
            found.save(part / TICKET_FILE)
            card = _card(module, found, name or place.name, training, shrunk)
            readme = part / "README.md"
            readme.write_text(model_card(card), encoding="utf-8")
            for file in part.iterdir():  # transformers lets only the owner read the weights, whatever the umask
                file.chmod(readme.stat().st_mode)
            part.replace(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return output


def _head(ticket: Ticket, task: str | None) -> type[Task]:
    """The task whose head the model gets."""
    name, known = task or ticket.provenance.task, tasks()
    if task is None and name not in known:
        raise UserError(
            f"ticket {ticket.where} is of the task {name!r}, which has no head of its own: choose one with --task, "
            f"one of {', '.join(known)}"
        )
    return lookup("task", name, known)


def _module(ticket: Ticket, head: type[Task], base_model: str | None) -> SubnetModule:
    """The model under the ticket's mask, with the head that the ticket's run started from."""
    p = ticket.provenance
    if base_model is None:
        try:
            load_config(p.base_model)
        except UserError as error:
            raise UserError(f"{error} The ticket names that base model; say where it is with --base-model.") from error
    place = base_model or p.base_model
    module = SubnetModule(head(place), place, ticket=str(ticket.path), seed=max(p.seed, 0))
    set_default_language(module.model, place, p.language)
    return module


def _fine_tune(module: SubnetModule, ticket: Ticket, path: Path) -> Training:
    """Replaces theta_0 by a checkpoint's weights, and returns what is known of them."""
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}: a fit writes it as checkpoints/last.ckpt in its folder")
    try:
        checkpoint = read_checkpoint(path)
    except DamagedError as error:
        raise UserError(f"{path} is not a whole checkpoint of `lnsub fit`: {error}") from error
    here, state = module.state_dict(), checkpoint["state_dict"]
    if why := misfit(state, module):
        raise UserError(
            f"{path} is a checkpoint of another model: {why}; give one of a fit of this base model and task, or choose "
            "the task with --task"
        )
    before = module.subnet.mask
    prunable = {id(weight) for weight in module.subnet.weights.values()}
    names = [name for name, weight in module.named_parameters() if id(weight) in prunable]
    rewound = all(torch.equal(state[name], here[name].to(state[name].dtype)) for name in names)
    module.load_state_dict(unnarrowed(state, here))
    if module.subnet.mask != before:
        raise UserError(
            f"{path} is of a fit under another mask (sparsity {module.subnet.mask.sparsity:.4f}) than that of ticket "
            f"{ticket.where} on this model ({before.sparsity:.4f}): give the checkpoint of a fit of this ticket"
        )
    if rewound:
        raise UserError(
            f"{path} holds theta_0 and no trained weights, as it was written between two rounds: let the fit "
            "finish, or export without --checkpoint"
        )
    records = [r for r in read(path.parent.parent / FILE_NAME) if r.ticket == ticket.checksum]
    return Training(path.name, checkpoint["global_step"], records)


def _save_model(model: PreTrainedModel, folder: Path, state: dict[str, Tensor]) -> None:
    # The state is that of the live model, so that transformers sees which weights are tied.
    with quiet():
        model.save_pretrained(folder, state_dict=state)


def _save_tokenizer(base_model: str, folder: Path) -> None:
    tokenizer = copy.deepcopy(load_tokenizer(base_model))  # whose last call may have left a truncation in it
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def _card(module: SubnetModule, ticket: Ticket, name: str, training: Training | None, shrunk: Shrunk | None) -> Card:
    seq2seq = module.model.config.is_encoder_decoder
    mask = module.subnet.mask
    weights = module.subnet.weights
    return Card(
        name=name,
        auto_class="AutoModelForSeq2SeqLM" if seq2seq else module.task.auto_class,
        pipeline="text2text-generation" if seq2seq else module.task.pipeline,
        base_model=module.base_model,
        ticket=ticket,
        ticket_file=TICKET_FILE,
        weights={n: weight.numel() for n, weight in weights.items()},
        kept={n: int(bits.sum()) for n, bits in mask.items()},
        zeros=sum(weight.numel() - int(weight.count_nonzero()) for weight in weights.values()),
        training=training,
        added_head=is_added(module.model),
        shrunk=shrunk,
    )
