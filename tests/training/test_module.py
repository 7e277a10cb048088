"""SubnetModule: how tickets meet models of other tasks, the optimizer's groups, and clipping under mixed precision."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from lnsub.common.errors import UserError
from lnsub.pruning.masks import Mask
from lnsub.pruning.selection import select
from lnsub.runs.folder import RunFolder
from lnsub.tasks.mlm import MLMTask, WikipediaMLM
from lnsub.tasks.wikiann import WikiANNTask
from lnsub.tasks.xnli import XNLI, XNLITask
from lnsub.tickets.ticket import Provenance, Ticket
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from tests.support.data_makers import write_rows


def ticket_of(module: SubnetModule, path: Path, sparsity: float = 0.5, **changed: object) -> Ticket:
    """A magnitude ticket of a module's untrained weights, on the disk."""
    mask = select({n: w.detach() for n, w in module.subnet.weights.items()}, module.subnet.mask, sparsity)
    facts = {"base_model": module.base_model, "base_fingerprint": module.fingerprint, "task": module.task.name}
    facts |= {"language": "en", "seed": 0, "round": 1, "sparsity": sparsity, "score": "magnitude", "scope": "global"}
    provenance = Provenance(**{**facts, "schedule": "linear", **changed})
    ticket = Ticket(mask.to_packed(), mask.shapes, provenance)
    ticket.save(path)
    return ticket


def write(folder: Path, **splits: list[dict[str, object]]) -> None:
    """Writes splits as JSON lines."""
    for split, rows in splits.items():
        write_rows(folder / f"{split}.jsonl", {name: [row[name] for row in rows] for name in rows[0]})


def test_a_ticket_found_on_one_task_is_put_on_the_models_of_the_others(bert, tmp_path, caplog):
    tagger = SubnetModule(WikiANNTask(bert), bert)
    ticket = ticket_of(tagger, tmp_path / "t.safetensors")
    for task, left_dense in (
        (XNLITask(bert), {"pooler.dense.weight"}),
        (MLMTask(bert), set()),
        (WikiANNTask(bert), set()),
    ):
        caplog.clear()
        with caplog.at_level("INFO", "lnsub"):
            mask = SubnetModule(task, bert, ticket=str(tmp_path / "t.safetensors")).subnet.mask
        found = Mask.from_packed(ticket.masks, ticket.shapes)
        assert set(mask) - set(found) == left_dense
        assert all(torch.equal(mask[name], found[name]) for name in found)
        assert all(bool(mask[name].all()) for name in left_dense)
        assert "applied to 12 matrices" in caplog.text
        assert ("1 of the model left dense" in caplog.text) == bool(left_dense)


def test_what_a_ticket_has_and_a_model_has_not_is_left_out_and_said(bert, tmp_path, caplog):
    ticket_of(SubnetModule(XNLITask(bert), bert), tmp_path / "t.safetensors")
    with caplog.at_level("INFO", "lnsub"):
        SubnetModule(WikiANNTask(bert), bert, ticket=str(tmp_path / "t.safetensors"))
    assert "12 matrices; 1 of the ticket" in caplog.text


def test_a_foreign_ticket_is_refused_in_a_sentence(bert, mt5, tmp_path):
    module = SubnetModule(XNLITask(bert), bert)
    ticket_of(module, tmp_path / "other.safetensors", base_fingerprint="0" * 64, base_model="other-bert")
    with pytest.raises(UserError, match=f"other-bert .* {bert}"):
        SubnetModule(XNLITask(bert), bert, ticket=str(tmp_path / "other.safetensors"))
    ticket_of(module, tmp_path / "t.safetensors")
    with pytest.raises(UserError, match=mt5):
        SubnetModule(XNLITask(mt5), mt5, ticket=str(tmp_path / "t.safetensors"))
    with pytest.raises(UserError, match=r"t\.safetensors"):
        SubnetModule(XNLITask(mt5), mt5, ticket=str(tmp_path / "t.safetensors"), init="random")


def test_the_seed_alone_decides_the_weights_that_the_checkpoint_lacks(bert):
    torch.manual_seed(1)
    first = SubnetModule(XNLITask(bert), bert, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = SubnetModule(XNLITask(bert), bert, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    other = SubnetModule(XNLITask(bert), bert, seed=6)
    assert torch.equal(first.model.classifier.weight, second.model.classifier.weight)
    assert not torch.equal(first.model.classifier.weight, other.model.classifier.weight)
    assert first.fingerprint == other.fingerprint


def test_biases_and_norms_have_no_weight_decay(bert, tmp_path, cache):
    class Seen(Exception):  # noqa: N818
        pass

    class Look(IMPCallback):
        def on_train_start(self, trainer: Trainer, pl_module: SubnetModule) -> None:  # type: ignore[override]
            raise Seen(trainer.optimizers[0])

    module, data = _text(bert, tmp_path, weight_decay=0.3)
    with pytest.raises(Seen) as seen:
        fit(_trainer(tmp_path, callbacks=[Look()]), module, data)
    decayed, plain = seen.value.args[0].param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert {names[id(p)].split(".")[-1] for p in decayed["params"]} == {"weight"}
    assert all("LayerNorm" in names[id(p)] or names[id(p)].endswith("bias") for p in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_masked_and_then_clipped(precision, bert, tmp_path, cache):
    """The norm that clipping sees is that of the masked gradients, and what remains has the norm asked for."""

    class Checked(SubnetModule):
        norms: list[tuple[float, float]] = []  # noqa: RUF012

        def configure_gradient_clipping(self, *args: object, **kwargs: object) -> None:
            assert all(not w.grad[~self.subnet.mask[n]].any() for n, w in self.subnet.weights.items())
            before = nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
            super().configure_gradient_clipping(*args, **kwargs)
            after = nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
            self.norms.append((float(before), float(after)))

    plain, data = _text(bert, tmp_path)
    ticket_of(plain, tmp_path / "t.safetensors")
    module = Checked(plain.task, bert, ticket=str(tmp_path / "t.safetensors"), learning_rate=1e-2)
    module.norms = []
    fit(_trainer(tmp_path, precision=precision, gradient_clip_val=0.01), module, data)
    assert len(module.norms) == 4
    for before, after in module.norms:
        assert before > 0.01
        assert after == pytest.approx(0.01, rel=1e-3)
    mask = module.subnet.mask
    assert all(not weight[~mask[name]].any() for name, weight in module.subnet.weights.items())


def test_mt5_finds_tickets_in_both_of_its_stacks(mt5, tmp_path, cache):
    rows = [{"premise": "the cat sat", "hypothesis": "a dog ran", "label": i % 3} for i in range(16)]
    write(tmp_path / "xnli" / "en", train=rows, validation=rows[:6])
    data = XNLI(language="en", tokenizer=mt5, dataset=str(tmp_path / "xnli"), batch_size=8, max_length=32)
    module = SubnetModule(data.task, mt5, learning_rate=1e-2)
    fit(_trainer(tmp_path, callbacks=[IMPCallback(sparsities=[0.5], scope="stack")]), module, data)
    ticket = Ticket.load(RunFolder(tmp_path / "run").ticket(0.5))
    for stack in ("encoder", "decoder"):
        kept = sum(count for name, count in ticket.kept_by_name.items() if name.startswith(stack))
        total = sum(torch.Size(shape).numel() for name, shape in ticket.shapes.items() if name.startswith(stack))
        assert kept == total - round(0.5 * total)
    assert {r.round for r in RunFolder(tmp_path / "run").records("imp")} == {0, 1}


@pytest.mark.parametrize(
    ("setting", "facts"),
    [
        ({"learning_rate": 0.0}, r"model\.learning_rate .*0\.0"),
        ({"warmup": 1.0}, r"model\.warmup is 1\.0: .*below 1"),
        ({"weight_decay": -1.0}, r"model\.weight_decay .*-1\.0"),
    ],
)
def test_settings_out_of_range_are_refused(setting, facts, bert):
    with pytest.raises(UserError, match=facts):
        SubnetModule(XNLITask(bert), bert, **setting)


def _text(base: str, folder: Path, **settings: float) -> tuple[SubnetModule, WikipediaMLM]:
    rows = [{"text": "the cat sat on a mat and the dog ran home"} for _ in range(16)]
    write(folder / "mlm" / "en", train=rows, validation=rows[:4])
    data = WikipediaMLM(
        language="en", tokenizer=base, dataset=str(folder / "mlm"), batch_size=2, max_length=24, max_train_examples=16
    )
    return SubnetModule(data.task, base, **settings), data


def _trainer(folder: Path, **settings: object) -> Trainer:
    values: dict[str, object] = {"max_epochs": 1, "limit_train_batches": 4, **settings}
    return Trainer(
        default_root_dir=folder / "run",
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **values,
    )
