"""torch.compile: one compilation for all batches of all rounds, the same losses, and refusals where it cannot work."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

from lnsub.common.errors import UserError
from lnsub.models.compiling import check_can_compile, compile_for_training
from lnsub.runs.folder import RunFolder
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.task import LanguageDataModule
from lnsub.tasks.wikiann import TAGS, WikiANN
from lnsub.tasks.xnli import XNLI
from lnsub.tickets.ticket import Ticket
from lnsub.training.fit import fit
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from tests.support.data_makers import WORDS, write_rows
from tests.support.models import bert_classifier

ROWS = 26  # batches of 8, 8, 8 and 2


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """Each test counts from zero, and leaves torch's settings as they were."""
    torch._dynamo.reset()
    counters.clear()
    with torch.fx.experimental._config.patch(use_duck_shape=True):
        yield
    torch._dynamo.reset()


class Watch(Callback):
    """Keeps every loss, and the number of compilations at the end of each round."""

    def __init__(self, counter: CompileCounterWithBackend | None = None, stop_at: int | None = None) -> None:
        self.counter = counter
        self.stop_at = stop_at
        self.losses: list[float] = []
        self.compilations: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: SubnetModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.stop_at:
            raise KeyError("pulled the plug")

    def on_train_batch_end(self, trainer: Trainer, pl_module: SubnetModule, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))

    def on_train_end(self, trainer: Trainer, pl_module: SubnetModule) -> None:
        if self.counter is not None:
            self.compilations.append(self.counter.frame_count)


def sentence(i: int) -> list[str]:
    """Between three and eleven words."""
    return [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 9)]


def make_data(task: str, base: str, folder: Path) -> LanguageDataModule:
    """A small data set of sentences of many lengths."""
    sentences = [sentence(i) for i in range(ROWS)]
    columns: dict[str, list[Any]]
    if task == "xnli":
        columns = {"premise": [" ".join(s) for s in sentences], "hypothesis": [s[-1] for s in sentences]}
        columns["label"] = [i % 3 for i in range(ROWS)]
    elif task == "wikiann":
        columns = {
            "tokens": sentences,
            "ner_tags": [[(i + k) % len(TAGS) for k in range(len(s))] for i, s in enumerate(sentences)],
        }
    else:
        columns = {"text": [" ".join(s) for s in sentences]}
    for split in ("train", "validation"):
        write_rows(folder / task / "en" / f"{split}.jsonl", columns)
    classes = {"xnli": XNLI, "wikiann": WikiANN, "mlm": WikipediaMLM}
    settings = {"max_train_examples": 8 * ROWS} if task == "mlm" else {}
    return classes[task](
        language="en", tokenizer=base, dataset=str(folder / task), batch_size=8, max_length=32, seed=3, **settings
    )


def run(
    data: LanguageDataModule,
    output: Path,
    watch: Watch,
    compile: str | None = "default",
    **settings: Any,
) -> SubnetModule:
    """Three rounds of IMP; with a counter, under its backend."""
    module = SubnetModule(data.task, data.tokenizer, learning_rate=5e-3, seed=3, compile=compile)
    if watch.counter is not None:
        compile_for_training(module.model, "default", watch.counter)
    trainer = Trainer(
        default_root_dir=output,
        callbacks=[IMPCallback(sparsities=[0.3, 0.6]), watch],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 2, "gradient_clip_val": 1.0, **settings},
    )
    fit(trainer, module, data)
    return module


@pytest.mark.parametrize(
    ("task", "base", "precision"),
    [
        ("xnli", "bert", "32-true"),
        pytest.param("xnli", "bert", "bf16-mixed", marks=pytest.mark.slow),
        pytest.param("xnli", "mt5", "32-true", marks=pytest.mark.slow),
        pytest.param("wikiann", "bert", "32-true", marks=pytest.mark.slow),
        pytest.param("mlm", "bert", "32-true", marks=pytest.mark.slow),
    ],
)
def test_three_rounds_compile_once_and_change_nothing(task, base, precision, request, tmp_path, cache):
    """Compiled by a compiler that changes no operation, so that only what lnsub does can differ."""
    data = make_data(task, request.getfixturevalue(base), tmp_path)
    plain, compiled = Watch(), Watch(CompileCounterWithBackend("eager"))
    models = [
        run(data, tmp_path / "plain", plain, compile=None, precision=precision),
        run(data, tmp_path / "compiled", compiled, precision=precision),
    ]
    assert compiled.compilations == [1, 1, 1]
    assert compiled.losses == plain.losses
    assert checksums(tmp_path / "compiled") == checksums(tmp_path / "plain")
    assert values(tmp_path / "compiled") == values(tmp_path / "plain")
    first, second = (model.state_dict() for model in models)
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_square_first_batch_does_not_tie_rows_to_width():
    model = bert_classifier().train()
    counter = CompileCounterWithBackend("eager")
    compile_for_training(model, "default", counter)
    for shape in ((8, 8), (8, 16), (7, 8), (24, 24)):
        ids = torch.randint(5, 60, shape)
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert counter.frame_count == 1


def test_another_model_of_the_same_shape_uses_what_is_compiled():
    counter = CompileCounterWithBackend("eager")
    ids = torch.randint(5, 60, (4, 16))
    for seed in range(3):
        model = bert_classifier(seed).train()
        plain = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        compile_for_training(model, "default", counter)
        assert torch.equal(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, plain)
    assert counter.frame_count == 1


@pytest.mark.slow
def test_an_interrupted_compiled_run_ends_with_the_same_tickets(bert, tmp_path, cache):
    data = make_data("xnli", bert, tmp_path)
    counter = CompileCounterWithBackend("eager")
    whole = Watch(counter)
    run(data, tmp_path / "whole", whole)
    steps = len(whole.losses) // 3
    with pytest.raises(KeyError, match="pulled the plug"):
        run(data, tmp_path / "cut", Watch(counter, stop_at=steps + 3))
    again = Watch(counter)
    run(data, tmp_path / "cut", again)
    assert again.losses == whole.losses[steps:]
    assert checksums(tmp_path / "cut") == checksums(tmp_path / "whole")
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with g++")
def test_compiled_kernels_give_the_same_losses_to_rounding(bert, tmp_path, cache):
    data = make_data("xnli", bert, tmp_path)
    plain, compiled = Watch(), Watch()
    run(data, tmp_path / "a", plain, compile=None)
    run(data, tmp_path / "b", compiled)
    assert len(compiled.losses) == len(plain.losses) > 20
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-4)
    assert counters["stats"]["unique_graphs"] == 1


def test_what_cannot_be_compiled_is_refused_before_training(bert, tmp_path, cache):
    data = make_data("xnli", bert, tmp_path)
    with pytest.raises(UserError, match=r"CUDA graphs.*accumulate"):
        run(data, tmp_path / "a", Watch(), compile="reduce-overhead", accumulate_grad_batches=2)
    without = torch._inductor.config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with without, pytest.raises(UserError, match="no-such-compiler"):
        run(data, tmp_path / "b", Watch())
    assert not RunFolder(tmp_path / "b").results.exists()


@pytest.mark.parametrize(
    ("mode", "device", "facts"),
    [
        ("reduce-overhead", "cuda", r"model\.attention: packed.*model\.compile: reduce-overhead"),
        ("default", "cpu", r"model\.attention: packed.*CPU"),
    ],
)
def test_packed_batches_are_refused_where_each_would_compile(mode, device, facts):
    with pytest.raises(UserError, match=facts):
        check_can_compile(mode, torch.device(device), packed=True)


def test_a_sharded_model_is_refused():
    with pytest.raises(UserError, match=r"model\.compile"):
        check_can_compile("default", torch.device("cpu"), sharded=True)


def checksums(output: Path) -> list[str]:
    """Of the tickets of a run."""
    return [Ticket.load(RunFolder(output).ticket(level)).checksum for level in (0.3, 0.6)]


def values(output: Path) -> list[tuple[Any, ...]]:
    """What each round measured."""
    return [(record.round, record.metric, record.value) for record in RunFolder(output).records("imp")]
