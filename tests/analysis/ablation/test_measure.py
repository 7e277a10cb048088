import json
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from lnsub.cli.main import main
from lnsub.common.locks import claimed
from lnsub.pruning.masks import Mask, shuffled
from lnsub.runs.records import Record, read
from lnsub.tasks.mlm import WikipediaMLM
from tests.support.ablation_world import LANGUAGES, AblationWorld, loss_of
from tests.support.data_makers import batches

NEURONS = {"fr": {"encoder.layer.0": [1, 2], "encoder.layer.1": [3]}, "ru": {"encoder.layer.0": [7, 9, 30]}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> AblationWorld:
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("ablation")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", path / "cache")
        yield AblationWorld(path)


def records(output: Path) -> dict[tuple[str | None, str | None, int | None, str], Record]:
    """The losses of a folder, by source, what was removed, draw and target."""
    found = [record for record in read(output / "results.jsonl") if record.metric == "loss"]
    named = {(r.source, r.removed, r.draw, r.target): r for r in found}
    assert len(named) == len(found)
    return named


def by_hand(world: AblationWorld, language: str, change: Callable[[BertForMaskedLM], None], limit: int | None) -> float:
    data = WikipediaMLM(
        language, str(world.base), str(world.path / "data"), max_length=16, mlm_probability=0.3, max_eval_blocks=limit
    )
    model = BertForMaskedLM.from_pretrained(world.base).eval()
    with torch.no_grad():
        change(model)
    return loss_of(model, list(batches(data.val_dataloader())))


def without_neurons(units: dict[str, list[int]]) -> Callable[[BertForMaskedLM], None]:
    def change(model: BertForMaskedLM) -> None:
        for name, places in units.items():
            block = model.bert.encoder.layer[int(name[-1])]
            block.intermediate.dense.weight[places] = 0
            block.output.dense.weight[:, places] = 0

    return change


def without_weights(world: AblationWorld, bits: dict[str, np.ndarray]) -> Callable[[BertForMaskedLM], None]:
    def change(model: BertForMaskedLM) -> None:
        for name, removed in bits.items():
            model.bert.get_parameter(name)[torch.from_numpy(removed)] = 0

    return change


def test_each_language_is_measured_without_what_each_ticket_keeps(world, tmp_path, capsys):
    files = world.saved(*(world.neurons(language, keep) for language, keep in NEURONS.items()))
    assert main(world.command(files, tmp_path / "out", "--draws=2", "--examples=4")) == 0
    found = records(tmp_path / "out")
    assert len(found) == 3 + 2 * 3 * 3
    for target in LANGUAGES:
        assert found[None, "none", None, target].value == pytest.approx(
            by_hand(world, target, lambda model: None, 4), abs=1e-6
        )
        for source, units in NEURONS.items():
            record = found[source, "kept", None, target]
            assert record.value == pytest.approx(by_hand(world, target, without_neurons(units), 4), abs=1e-6)
            assert (record.n, record.units, record.granularity, record.fill) == (16, 3, "neuron", "zero")
            for draw in range(2):
                drawn = found[source, "random", draw, target]
                assert (drawn.units, drawn.drawn_for, drawn.ticket) == (3, "kept", record.ticket)
    screen = capsys.readouterr().out
    assert "mlm: kept of lape, neuron, sparsity 0.9 taken away, zero in its place" in screen
    assert f"{found['fr', 'kept', None, 'ru'].value - found[None, 'none', None, 'ru'].value:+.4f}" in screen


def test_what_a_weight_ticket_prunes_is_what_applying_it_removes_and_draws_are_of_each_matrix(world, tmp_path):
    ticket = world.weights("fr", density=0.4)
    (file,) = world.saved(ticket)
    assert main(world.command([file], tmp_path / "out", "--remove=pruned", "--draws=1")) == 0
    found = records(tmp_path / "out")
    bits = {name: ~kept for name, kept in ticket.bits().items()}
    drawn = shuffled(Mask({name: torch.from_numpy(removed) for name, removed in bits.items()}), 57 * 1_000_000)
    random = {name: removed.numpy() for name, removed in drawn.items()}
    for target in LANGUAGES:
        for named, removed in ((("pruned", None), bits), (("random", 0), random)):
            hand = by_hand(world, target, without_weights(world, removed), None)
            assert found["fr", *named, target].value == pytest.approx(hand, abs=1e-6)


def test_the_departure_is_from_theta_0_or_from_the_masks_named(world, tmp_path):
    ticket, pooled = world.weights("fr", density=0.5), world.weights("fr+ru+ur", density=0.5)
    file, reference = world.saved(ticket, pooled)
    more = ["--remove=departure", "--draws=0"]
    assert main(world.command([file], tmp_path / "a", *more)) == 0
    assert main(world.command([file], tmp_path / "b", *more, "--inherited", reference)) == 0
    model = BertForMaskedLM.from_pretrained(world.base)
    size = np.sort(np.concatenate([model.bert.get_parameter(n).detach().abs().flatten() for n in ticket.shapes]))
    threshold = size[len(size) // 2]
    magnitude = {n: model.bert.get_parameter(n).detach().abs().numpy() >= threshold for n in ticket.shapes}
    for output, other in (("a", magnitude), ("b", pooled.bits())):
        bits = {name: kept & ~other[name] for name, kept in ticket.bits().items()}
        found = records(tmp_path / output)
        for target in LANGUAGES:
            record = found["fr", "departure", None, target]
            assert record.value == pytest.approx(by_hand(world, target, without_weights(world, bits), None), abs=1e-6)
            assert record.units == sum(int(removed.sum()) for removed in bits.values())


def test_a_mean_in_place_of_a_weight_is_another_measurement_of_the_same_folder(world, tmp_path):
    (file,) = world.saved(world.weights("ru", density=0.5))
    more = ["--draws=0", "--sample=8"]
    assert main(world.command([file], tmp_path / "out", *more)) == 0
    assert main(world.command([file], tmp_path / "out", *more, "--fill=mean")) == 0
    found = [record for record in read(tmp_path / "out" / "results.jsonl") if record.metric == "loss"]
    assert len(found) == 3 + 3 + 3  # the dense model once
    assert {record.fill for record in found if record.removed == "kept"} == {"zero", "mean"}
    values = {(record.fill, record.target): record.value for record in found if record.removed == "kept"}
    assert all(values["zero", target] != values["mean", target] for target in LANGUAGES)


def test_what_is_missing_is_measured_and_nothing_twice(world, tmp_path, capsys):
    files = world.saved(world.neurons("fr", NEURONS["fr"]))
    command = world.command(files, tmp_path / "out", "--draws=2", "--format=json")
    assert main(command) == 0
    first, path = capsys.readouterr().out, tmp_path / "out" / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-5]) + lines[-5][:20])  # killed while it wrote
    with pytest.warns(UserWarning, match="is skipped"):
        assert main(command) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads(first)
    assert err.count("random 2 on") == 2
    before = path.read_bytes()
    with pytest.warns(UserWarning, match="is skipped"):
        assert main(command) == 0
    assert capsys.readouterr() == (out, "")
    assert path.read_bytes() == before


def test_a_fine_tuned_model_takes_the_place_of_theta_0(world, tmp_path):
    run = ["fit", f"--config={world.config}", "--data.init_args.language=fr", f"--output={tmp_path / 'runs'}"]
    assert main([*run, "--trainer.max_steps=3", "--model.learning_rate=0.01"]) == 0
    checkpoint = tmp_path / "runs" / "mlm" / "fr" / "seed57" / "checkpoints" / "last.ckpt"
    files = world.saved(world.neurons("fr", NEURONS["fr"]))
    assert main(world.command(files, tmp_path / "out", "--draws=0", f"--checkpoint={checkpoint}")) == 0
    (trained,) = [
        record.value
        for record in read(tmp_path / "runs" / "mlm" / "fr" / "seed57" / "results.jsonl")
        if record.metric == "loss"
    ]
    assert records(tmp_path / "out")[None, "none", None, "fr"].value == pytest.approx(trained, abs=1e-6)


def test_what_cannot_be_measured_is_refused_in_one_line(world, tmp_path, capsys):
    good = world.saved(world.neurons("fr", NEURONS["fr"]))
    xnli = tmp_path / "xnli.yaml"
    xnli.write_text(world.config.read_text().replace("WikipediaMLM", "XNLI").replace(", mlm_probability: 0.3", ""))

    def refused(command: list[str]) -> str:
        assert main(command) == 2
        err = capsys.readouterr().err.splitlines()
        assert [line.startswith("lnsub: error: ") for line in err] == [True], err
        return err[0]

    out = tmp_path / "out"
    capsys.readouterr()
    assert "name a fine-tuned model with --checkpoint" in refused(
        [f"--config={xnli}" if part.startswith("--config") else part for part in world.command(good, out)]
    )
    assert "--checkpoint: there is no file" in refused(world.command(good, out, "--checkpoint=nowhere"))
    assert "add --remove departure" in refused(world.command(good, out, "--inherited", *good))
    assert "draws is -1" in refused(world.command(good, out, "--draws=-1"))
    assert "has options of its own" in refused(world.command(good, out, "--", "--model.ticket=a"))
    assert "is in use by another process" in _while_claimed(out, lambda: refused(world.command(good, out)))
    assert main(world.command(good, tmp_path / "done", "--draws=0")) == 0
    capsys.readouterr()
    assert "other settings: ablation.examples" in refused(world.command(good, tmp_path / "done", "--examples=2"))


def _while_claimed(folder: Path, call: Callable[[], str]) -> str:
    """Calls a function while another process holds a folder."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    ready, stop = context.Event(), context.Event()

    def hold() -> None:
        with claimed(folder):
            ready.set()
            stop.wait(60)

    process = context.Process(target=hold)
    process.start()
    try:
        assert ready.wait(60)
        return call()
    finally:
        stop.set()
        process.join()
