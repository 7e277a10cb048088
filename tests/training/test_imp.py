"""The loop: what is pruned, rewound, recorded and gone on with, over several rounds of real training."""

import json
import warnings
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.optim.optimizer import Optimizer
from transformers import get_constant_schedule_with_warmup, get_linear_schedule_with_warmup

from lnsub.common.errors import UserError
from lnsub.pruning.granularity import select_units
from lnsub.pruning.masks import Mask
from lnsub.pruning.schedules import SCHEDULES
from lnsub.pruning.scopes import SCOPES
from lnsub.pruning.scores import SCORES
from lnsub.pruning.selection import select
from lnsub.runs.folder import RunFolder
from lnsub.tasks.xnli import XNLI
from lnsub.tickets.ticket import Ticket
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from lnsub.training.optimizers import linear_schedule
from tests.support.data_makers import WORDS

LEVELS = [0.2, 0.5, 0.7]
STEPS = 2 * 5  # two epochs of five batches


@pytest.fixture
def data(tmp_path: Path, cache: Path) -> Path:
    """Forty training and twelve validation pairs."""
    for split, rows in (("train", 40), ("validation", 12)):
        path = tmp_path / "xnli" / "en" / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            for i in range(rows):
                words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 5)]
                row = {"premise": " ".join(words), "hypothesis": words[-1], "label": i % 3}
                file.write(json.dumps(row) + "\n")
    return tmp_path / "xnli"


class Watch(Callback):
    """Keeps what each round began and ended with."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.started: list[dict[str, torch.Tensor]] = []
        self.ended: list[dict[str, torch.Tensor]] = []
        self.optimizers: list[Optimizer] = []
        self.moments_at_start: list[int] = []
        self.rates: list[list[float]] = []
        self.losses: list[float] = []
        self.stop_at = stop_at

    def on_train_start(self, trainer: Trainer, pl_module: SubnetModule) -> None:
        self.started.append(_state(pl_module))
        self.optimizers.append(trainer.optimizers[0])
        self.moments_at_start.append(len(trainer.optimizers[0].state))
        self.rates.append([])

    def on_train_batch_start(self, trainer: Trainer, pl_module: SubnetModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.stop_at:
            raise KeyError("pulled the plug")
        self.rates[-1].append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: SubnetModule, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_train_end(self, trainer: Trainer, pl_module: SubnetModule) -> None:
        self.ended.append(_state(pl_module))


def _state(module: SubnetModule) -> dict[str, torch.Tensor]:
    state = module.subnet.vocabulary.whole(module.model.state_dict())
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def run(
    base: str, data: Path, output: Path, imp: IMPCallback | None, watch: Watch | None = None, **settings: Any
) -> tuple[Watch, SubnetModule, Trainer]:
    """One process's worth of a run in ``output``."""
    of_module = ("ticket", "init", "seed", "warmup", "lr_schedule", "optimizer")
    module_settings = {k: settings.pop(k) for k in of_module if k in settings}
    watch = watch or Watch()
    datamodule = XNLI(language="en", tokenizer=base, dataset=str(data), batch_size=8, max_length=32, seed=3)
    module = SubnetModule(datamodule.task, base, learning_rate=5e-3, **{"seed": 3, **module_settings})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            default_root_dir=output,
            callbacks=[*([imp] if imp else []), watch],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **{"max_epochs": 2, "gradient_clip_val": 1.0, **settings},
        )
        fit(trainer, module, datamodule)
    return watch, module, trainer


def tickets(output: Path, levels: list[float] = LEVELS) -> list[Ticket]:
    return [Ticket.load(RunFolder(output).ticket(level)) for level in levels]


def values(output: Path) -> list[tuple[Any, ...]]:
    return [(r.round, r.metric, r.value, r.ticket) for r in RunFolder(output).records("imp")]


def test_every_round_prunes_exactly_rewinds_bit_for_bit_and_starts_afresh(bert, data, tmp_path):
    watch, module, trainer = run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS))
    theta_0 = watch.started[0]
    total = sum(weight.numel() for weight in module.subnet.weights.values())
    masks = [Mask.from_packed(t.masks, t.shapes) for t in tickets(tmp_path / "run")]
    for level, mask, ticket in zip(LEVELS, masks, tickets(tmp_path / "run"), strict=True):
        assert mask.total - mask.kept == round(level * total)
        assert ticket.provenance.sparsity == level
    assert masks[1].is_subset_of(masks[0])
    assert masks[2].is_subset_of(masks[1])
    for round_ in (1, 2, 3):
        for name, kept in masks[round_ - 1].items():
            key = f"bert.{name}"
            assert torch.equal(watch.started[round_][key], torch.where(kept, theta_0[key], 0.0)), (round_, name)
            assert not watch.ended[round_][key][~kept].any(), (round_, name)
            assert (watch.ended[round_][key] != watch.started[round_][key])[kept].float().mean() > 0.9
        for name, tensor in theta_0.items():  # embeddings, norms, biases and the head go back too
            if not name.endswith("weight_mask") and name.removeprefix("bert.") not in masks[0]:
                assert torch.equal(watch.started[round_][name], tensor), (round_, name)
    assert watch.moments_at_start == [0, 0, 0, 0]
    assert len({id(optimizer) for optimizer in watch.optimizers}) == 4
    assert trainer.global_step == 4 * STEPS


def test_each_pruning_step_ranks_the_weights_as_trained(bert, data, tmp_path):
    watch, module, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS))
    mask = Mask.dense(module.subnet.shapes)
    for round_, (level, ticket) in enumerate(zip(LEVELS, tickets(tmp_path / "run"), strict=True)):
        mask = select({name: watch.ended[round_][f"bert.{name}"] for name in mask}, mask, level)
        assert Mask.from_packed(ticket.masks, ticket.shapes).equal(mask)


def test_the_learning_rate_falls_to_zero_within_each_round(bert, data, tmp_path):
    watch, _, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS), warmup=0.2)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=5e-3)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, STEPS)
    expected = []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert watch.rates == [pytest.approx(expected)] * 4


@pytest.mark.parametrize("rewind", [{"rewind": "none"}, {"rewind": "init"}, {"rewind": "step", "rewind_step": 3}])
def test_without_lr_rewinding_one_schedule_runs_over_all_rounds(rewind, bert, data, tmp_path):
    imp = IMPCallback(sparsities=LEVELS, rewind_lr=False, **rewind)
    watch, _, _ = run(bert, data, tmp_path / "run", imp)
    rates = [rate for rates in watch.rates for rate in rates]
    assert rates == pytest.approx([5e-3 * linear_schedule(step, 4 * STEPS, 0) for step in range(4 * STEPS)])
    # Round 0 of four ends near three quarters of the peak.
    assert watch.rates[0][-1] == pytest.approx(5e-3 * (0.75 + 1 / (4 * STEPS)))


def test_one_schedule_over_all_rounds_rewinds_to_theta_0_all_the_same(bert, data, tmp_path):
    watch, _, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS, rewind_lr=False))
    for begun, ticket in zip(watch.started[1:], tickets(tmp_path / "run"), strict=True):
        for name, kept in Mask.from_packed(ticket.masks, ticket.shapes).items():
            assert torch.equal(begun[f"bert.{name}"], torch.where(kept, watch.started[0][f"bert.{name}"], 0.0))


def test_a_constant_rate_stays_at_its_peak_after_the_warm_up(bert, data, tmp_path):
    watch, _, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=[0.5]), warmup=0.2, lr_schedule="constant")
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=5e-3)
    schedule = get_constant_schedule_with_warmup(optimizer, 2)
    expected = []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert watch.rates == [pytest.approx(expected)] * 2


def test_adafactor_trains_and_leaves_pruned_weights_at_zero(bert, data, tmp_path):
    watch, _, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS), optimizer="adafactor")
    assert all(type(optimizer).__name__ == "Adafactor" for optimizer in watch.optimizers)
    for ended, ticket in zip(watch.ended[1:], tickets(tmp_path / "run"), strict=True):
        for name, kept in Mask.from_packed(ticket.masks, ticket.shapes).items():
            assert not ended[f"bert.{name}"][~kept].any()
            assert (ended[f"bert.{name}"] != watch.started[0][f"bert.{name}"])[kept].any()


def test_late_rewinding_goes_back_to_the_weights_of_that_step(bert, data, tmp_path):
    class At(Watch):
        kept: dict[str, torch.Tensor]

        def on_train_batch_end(self, trainer: Trainer, pl_module: SubnetModule, outputs: Any, *_: Any) -> None:
            if trainer.global_step == 4:
                self.kept = _state(pl_module)

    watch, _, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS, rewind="step", rewind_step=4), At())
    for begun, ticket in zip(watch.started[1:], tickets(tmp_path / "run"), strict=True):
        for name, kept in Mask.from_packed(ticket.masks, ticket.shapes).items():
            assert torch.equal(begun[f"bert.{name}"], torch.where(kept, watch.kept[f"bert.{name}"], 0.0))
        assert torch.equal(begun["classifier.weight"], watch.kept["classifier.weight"])


@pytest.mark.parametrize("head", ["reinit", "keep"])
def test_without_a_rewind_weights_stay_trained_and_the_head_does_as_told(head, bert, data, tmp_path):
    imp = IMPCallback(sparsities=LEVELS, rewind="none", head=head)
    watch, _, _ = run(bert, data, tmp_path / "run", imp)
    for round_, ticket in enumerate(tickets(tmp_path / "run"), start=1):
        before, after = watch.ended[round_ - 1], watch.started[round_]
        for name, kept in Mask.from_packed(ticket.masks, ticket.shapes).items():
            assert torch.equal(after[f"bert.{name}"], torch.where(kept, before[f"bert.{name}"], 0.0))
        expected = (watch.started[0] if head == "reinit" else before)["classifier.weight"]
        assert torch.equal(after["classifier.weight"], expected)


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"rewind": "step", "rewind_step": 3},
        {"rewind": "none", "head": "keep"},
        {"rewind": "none", "rewind_lr": False},
        {"rewind_lr": False, "head": "keep"},
        {"optimizer": "adafactor", "lr_schedule": "constant"},
        {"score": "taylor", "score_examples": 13},
        {"score": "fisher", "score_examples": 13, "fisher_labels": "sampled"},
        {"granularity": "neuron"},
    ],
)
@pytest.mark.parametrize("stop_at", [STEPS + 3, 3 * STEPS])
def test_an_interrupted_run_ends_with_the_same_tickets_and_results(stop_at, variant, bert, data, tmp_path):
    settings = {key: value for key, value in variant.items() if key in {"optimizer", "lr_schedule"}}
    loop = {key: value for key, value in variant.items() if key not in settings}
    _, module, _ = run(bert, data, tmp_path / "whole", IMPCallback(sparsities=LEVELS, **loop), **settings)
    with pytest.raises(KeyError, match="pulled the plug"):
        run(bert, data, tmp_path / "cut", IMPCallback(sparsities=LEVELS, **loop), Watch(stop_at), **settings)
    done = {r.round for r in RunFolder(tmp_path / "cut").records("imp")}
    assert done == set(range(stop_at // STEPS))
    again, module_again, _ = run(bert, data, tmp_path / "cut", IMPCallback(sparsities=LEVELS, **loop), **settings)
    assert len(again.started) == 4 - len(done)
    assert [t.checksum for t in tickets(tmp_path / "cut")] == [t.checksum for t in tickets(tmp_path / "whole")]
    assert values(tmp_path / "cut") == values(tmp_path / "whole")
    for name, tensor in _state(module).items():
        assert torch.equal(tensor, _state(module_again)[name]), name


def test_a_finished_run_is_left_alone(bert, data, tmp_path, caplog):
    run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with caplog.at_level("INFO", "lnsub"):
        watch, _, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS))
    assert not watch.started
    assert "All 4 rounds are done" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()} == files
    assert not RunFolder(tmp_path / "run").checkpoint.exists()


def test_a_run_is_not_resumed_from_another_base_model(bert, data, tmp_path):
    with pytest.raises(KeyError):
        run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS), Watch(STEPS + 1))
    from transformers import BertModel

    other = BertModel.from_pretrained(bert)
    with torch.no_grad():
        other.encoder.layer[0].output.dense.weight.add_(1e-3)
    other.save_pretrained(tmp_path / "other")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "other" / name).write_bytes((Path(bert) / name).read_bytes())
    with pytest.raises(UserError, match=f"base model .*{tmp_path}.*--output"):
        run(str(tmp_path / "other"), data, tmp_path / "run", IMPCallback(sparsities=LEVELS))


def test_rounds_can_be_counted_in_steps(bert, data, tmp_path):
    imp = IMPCallback(sparsities=[0.5])
    watch, _, trainer = run(bert, data, tmp_path / "run", imp, max_epochs=-1, max_steps=7)
    assert [len(rates) for rates in watch.rates] == [7, 7]
    assert watch.rates[0] == watch.rates[1]
    assert trainer.global_step == 14
    assert {r.round for r in RunFolder(tmp_path / "run").records("imp")} == {0, 1}


@pytest.mark.parametrize("score", ["random", "magnitude_init", "change", "taylor", "fisher", "wanda"])
def test_other_scores_prune_exactly_too(score, bert, data, tmp_path):
    watch, module, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=[0.3, 0.6], score=score))
    (low, high) = tickets(tmp_path / "run", [0.3, 0.6])
    assert high.total - high.kept == round(0.6 * high.total)
    assert high.provenance.score == score
    theta_0 = {name: watch.started[0][f"bert.{name}"] for name in module.subnet.weights}
    if score == "change":  # the weights as each round trained them, against where it started
        mask = Mask.dense(module.subnet.shapes)
        for ticket, ended in zip((low, high), watch.ended, strict=False):
            moved = {name: ended[f"bert.{name}"] - before for name, before in theta_0.items()}
            mask = select(moved, mask, ticket.provenance.sparsity)
            assert Mask.from_packed(ticket.masks, ticket.shapes).equal(mask)
    if score == "magnitude_init":
        expected = select(theta_0, Mask.dense(module.subnet.shapes), 0.6)
        assert Mask.from_packed(high.masks, high.shapes).equal(expected)
    magnitude = {name: watch.ended[0][f"bert.{name}"] for name in module.subnet.weights}
    by_magnitude = select(magnitude, Mask.dense(module.subnet.shapes), 0.3)
    assert not Mask.from_packed(low.masks, low.shapes).equal(by_magnitude)


@pytest.mark.parametrize("granularity", ["neuron", "head", "row"])
def test_units_are_pruned_as_a_whole_and_other_matrices_stay_dense(granularity, bert, data, tmp_path):
    imp = IMPCallback(sparsities=[0.25, 0.5], granularity=granularity)
    watch, module, _ = run(bert, data, tmp_path / "run", imp)
    low, high = tickets(tmp_path / "run", [0.25, 0.5])
    for ticket in (low, high):
        # Units of one size in all layers, so that sparsities are exact; rows differ in theirs.
        exact = ticket.provenance.sparsity * ticket.total
        assert abs(ticket.total - ticket.kept - exact) <= (16 if granularity == "row" else 0)
        units = ticket.units
        assert units.granularity == granularity
        units.kept(ticket.bits())
    trained = {name: watch.ended[0][f"bert.{name}"] for name in module.subnet.weights}
    expected = select_units(trained, Mask.dense(module.subnet.shapes), 0.25, "global", low.units)
    assert Mask.from_packed(low.masks, low.shapes).equal(expected.restricted(low.masks))
    outside = module.subnet.weights.keys() - low.masks.keys()
    assert all(bool(module.subnet.mask[name].all()) for name in outside)
    assert len(outside) == {"neuron": 9, "head": 5, "row": 1}[granularity]
    assert RunFolder(tmp_path / "run").records("imp")[-1].score == f"magnitude by {granularity}"
    # As a ticket: fine-tuned under its mask.
    _, tuned, _ = run(bert, data, tmp_path / "tuned", None, ticket=str(high.path))
    assert tuned.subnet.mask.restricted(high.masks) == Mask.from_packed(high.masks, high.shapes)


def test_a_ticket_is_fine_tuned_under_its_mask_and_recorded_once(bert, data, tmp_path):
    run(bert, data, tmp_path / "run", IMPCallback(sparsities=[0.5]))
    path = RunFolder(tmp_path / "run").ticket(0.5)
    watch, _, _ = run(bert, data, tmp_path / "transfer", None, ticket=str(path))
    ticket = Ticket.load(path)
    for name, kept in Mask.from_packed(ticket.masks, ticket.shapes).items():
        assert not watch.ended[0][f"bert.{name}"][~kept].any()
    records = RunFolder(tmp_path / "transfer").records("transfer")
    assert {record.metric for record in records} == {"accuracy"}
    assert records[0].ticket == ticket.checksum
    assert (records[0].source, records[0].sparsity, records[0].n) == ("en", 0.5, 12)
    again, _, _ = run(bert, data, tmp_path / "transfer", None, ticket=str(path))
    assert not again.started
    assert RunFolder(tmp_path / "transfer").records("transfer") == records
    # Round 1 of IMP is the same fine-tuning: the same mask, seed and data.
    in_round_1 = [r.value for r in RunFolder(tmp_path / "run").records("imp") if r.round == 1]
    assert [record.value for record in records] == in_round_1


def test_a_reinitialised_ticket_starts_from_other_weights_of_the_same_shape(bert, data, tmp_path):
    run(bert, data, tmp_path / "run", IMPCallback(sparsities=[0.5]))
    path = str(RunFolder(tmp_path / "run").ticket(0.5))
    pretrained, _, _ = run(bert, data, tmp_path / "a", None, ticket=path)
    fresh, _, _ = run(bert, data, tmp_path / "b", None, ticket=path, init="random")
    assert RunFolder(tmp_path / "b").records("transfer")[0].init == "random"
    for name, kept in Mask.from_packed(Ticket.load(path).masks, Ticket.load(path).shapes).items():
        assert not fresh.started[0][f"bert.{name}"][~kept].any()
        assert (fresh.started[0][f"bert.{name}"] != pretrained.started[0][f"bert.{name}"])[kept].all()


def test_weights_that_are_not_numbers_stop_the_run_before_anything_is_written(bert, data, tmp_path):
    class Break(Watch):
        def on_train_end(self, trainer: Trainer, pl_module: SubnetModule) -> None:
            if trainer.global_step == 2 * STEPS:
                with torch.no_grad():
                    pl_module.model.bert.encoder.layer[1].output.dense.weight.fill_(float("nan"))

    with pytest.raises(UserError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        run(bert, data, tmp_path / "run", IMPCallback(sparsities=LEVELS), Break())
    assert [path.name for path in (tmp_path / "run" / "tickets").iterdir()] == ["s0.20.safetensors"]
    assert {r.round for r in RunFolder(tmp_path / "run").records("imp")} == {0}


def test_a_kept_checkpoint_holds_the_last_round_as_trained(bert, data, tmp_path):
    watch, _, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=[0.5], keep_checkpoint=True))
    state = torch.load(RunFolder(tmp_path / "run").checkpoint, weights_only=True)["state_dict"]
    for name, tensor in watch.ended[-1].items():
        assert torch.equal(state[f"model.{name}"], tensor), name
    again, _, _ = run(bert, data, tmp_path / "run", IMPCallback(sparsities=[0.5], keep_checkpoint=True))
    assert not again.started


def test_the_callback_says_what_starts_it(bert, data):
    datamodule = XNLI(language="en", tokenizer=bert, dataset=str(data))
    trainer = Trainer(max_epochs=1, callbacks=[IMPCallback()], logger=False, enable_checkpointing=False)
    with pytest.raises(UserError, match=r"lnsub\.fit"):
        trainer.fit(SubnetModule(datamodule.task, bert), datamodule)


def test_settings_that_cannot_work_are_refused_before_training(bert, data, tmp_path):
    with pytest.raises(UserError, match=r"rewind_step .*rewind: step"):
        IMPCallback(rewind="step")
    with pytest.raises(UserError, match=r"score_examples .*taylor, fisher.* magnitude"):
        IMPCallback(score_examples=8)
    with pytest.raises(UserError, match=r"fisher_labels .*`score: fisher`.* taylor"):
        IMPCallback(score="taylor", fisher_labels="sampled")
    with pytest.raises(UserError, match=r"score_examples is 0: .* from 1 "):
        IMPCallback(score="fisher", score_examples=0)
    with pytest.raises(UserError, match=r"rewind_step .*99.* 10 "):
        run(bert, data, tmp_path / "a", IMPCallback(rewind="step", rewind_step=99))
    with pytest.raises(UserError, match=r"max_epochs or trainer\.max_steps"):
        run(bert, data, tmp_path / "b", IMPCallback(), max_epochs=-1)
    with pytest.raises(UserError, match=r"limit_val_batches .*0"):
        run(bert, data, tmp_path / "b", IMPCallback(), limit_val_batches=0)
    run(bert, data, tmp_path / "c", IMPCallback(sparsities=[0.5]))
    with pytest.raises(UserError, match=r"model\.ticket and IMPCallback"):
        run(bert, data, tmp_path / "d", IMPCallback(), ticket=str(RunFolder(tmp_path / "c").ticket(0.5)))


def test_what_the_callback_offers_is_what_there_is():
    offered = get_type_hints(IMPCallback.__init__)
    for setting, registry in (("score", SCORES), ("scope", SCOPES), ("schedule", SCHEDULES)):
        assert set(get_args(offered[setting])) == set(registry)
