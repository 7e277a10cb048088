"""What scores are computed from, against one example at a time under torch.autograd and plain loops over tokens."""

import io
import json
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED, BatchRows
from lnsub.models.prunable import prunable
from lnsub.pruning import scores
from lnsub.pruning.masks import generator_for
from lnsub.pruning.scores import Score, ScoreInputs
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.task import LanguageDataModule
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from lnsub.training.callbacks import RunCallback
from lnsub.training.imp import IMPCallback
from lnsub.training.module import SubnetModule
from lnsub.training.progress import RoundProgress
from lnsub.training.samples import Sample, sampled_labels
from lnsub.training.score_inputs import collect_inputs
from tests.support.data_makers import WORDS

EXAMPLES = 11


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that need one thing, or all of it: none of those there are needs the activations."""

    def nothing(inputs: ScoreInputs) -> dict[str, Tensor]:
        return {}

    needs: list[Any] = ["gradients", "squared_gradients", "activations"]
    made = {"all": Score(nothing, frozenset(needs)), "activations": Score(nothing, frozenset({"activations"}))}
    monkeypatch.setattr(scores, "SCORES", {**scores.SCORES, **made})
    monkeypatch.setattr("lnsub.training.score_inputs.SCORES", scores.SCORES)


@pytest.fixture
def rows(tmp_path: Path, cache: Path) -> Path:
    """Rows of different lengths with the columns of every task."""
    path = tmp_path / "rows" / "en" / "train.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        for i in range(17):
            words = [WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 6)]
            row = {"tokens": words, "ner_tags": [(i + k) % 5 for k in range(len(words))], "text": " ".join(words)}
            row |= {"premise": " ".join(words), "hypothesis": words[i % 3], "label": i % 3}
            file.write(json.dumps(row) + "\n")
    return tmp_path / "rows"


TASKS: dict[str, type[LanguageDataModule]] = {"xnli": XNLI, "wikiann": WikiANN, "mlm": WikipediaMLM}


def made(
    name: str, base: str, rows: Path, callbacks: list[Any] | None = None, attention: Any = "sdpa", **settings: Any
) -> tuple[Trainer, SubnetModule, LanguageDataModule]:
    if name == "mlm":
        settings["max_length"] = 10  # many short blocks, all full but the last
    data = TASKS[name]("en", base, str(rows), seed=3, **{"max_length": 32, **settings})
    module = SubnetModule(data.task, base, seed=3, attention=attention).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=callbacks)
    return trainer, module, data


def collected(
    score: str, name: str, base: str, rows: Path, *, labels: Any = "observed", examples: int = EXAMPLES, **settings: Any
) -> tuple[ScoreInputs, SubnetModule, list[tuple[int, dict[str, Tensor]]]]:
    """What was collected, the module, and the examples that it was collected from, each a batch of its own."""
    trainer, module, data = made(name, base, rows, **settings)
    found = collect_inputs(score, trainer, module, data, {}, Sample(examples, labels))
    plain = TASKS[name]("en", base, str(rows), seed=3, max_length=data.max_length)
    loader = plain.train_dataloader()
    chosen = np.random.default_rng([3, 211109839]).permutation(len(loader.sampler.lengths))[:examples]
    return found, module, [(row, loader.dataset[BatchRows(0, np.array([row]))]) for row in chosen.tolist()]


def naive(module: SubnetModule, batches: list[tuple[int, dict[str, Tensor]]], sampled: bool) -> dict[str, Any]:
    """Gradients and squared gradients, one backward pass for each example."""
    module.eval()
    weights = module.subnet.weights
    gradients, squares, count = defaultdict(float), defaultdict(float), 0
    for row, batch in batches:
        labels = batch["labels"]
        if sampled:
            labels = sampled_labels(module(batch), batch, np.array([row]), 3)
        log_p = module(batch).log_softmax(-1)
        counted = labels != IGNORED
        likelihood = log_p[counted].gather(-1, labels[counted].unsqueeze(-1)).sum()
        for name, gradient in zip(weights, torch.autograd.grad(-likelihood, list(weights.values())), strict=True):
            gradients[name] += gradient
            squares[name] += gradient**2 / len(batches)
        count += int(counted.sum())
    return {"gradients": {name: g / count for name, g in gradients.items()}, "squared_gradients": squares}


def assert_same(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        # In double precision, but for the loss, which tasks compute in single.
        torch.testing.assert_close(found[name], values, rtol=1e-5, atol=1e-6 * float(values.abs().max()))
        assert values.any(), name


@pytest.mark.parametrize("labels", ["observed", "sampled"])
@pytest.mark.parametrize("task", TASKS)
def test_squared_gradients_are_those_of_single_examples(task, labels, bert, rows):
    found, module, batches = collected("all", task, bert, rows, labels=labels)
    assert len(batches) == EXAMPLES
    expected = naive(module, batches, labels == "sampled")
    assert_same(found.squared_gradients, expected["squared_gradients"])
    assert_same(found.gradients, expected["gradients"])


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("xnli", {"attention": "packed"}),
        ("wikiann", {"attention": "packed", "pad_to_multiple_of": 8}),
        ("wikiann", {"pad_to_multiple_of": 8, "batch_size": 3}),
        ("xnli", {"attention": "eager", "tokens_per_batch": 40, "batch_size": 1}),
    ],
)
def test_they_do_not_depend_on_padding_or_batches(task, settings, bert, rows):
    found, *_ = collected("all", task, bert, rows, **settings)
    plain, *_ = collected("all", task, bert, rows)
    for what in ("squared_gradients", "gradients", "activations"):
        for name, values in getattr(plain, what).items():
            most = float(values.abs().max())
            torch.testing.assert_close(getattr(found, what)[name], values, rtol=1e-5, atol=1e-6 * most)


def test_an_encoder_decoders_words_are_one_example(mt5, rows):
    found, module, batches = collected("all", "xnli", mt5, rows)
    expected = naive(module, batches, sampled=False)
    assert_same(found.squared_gradients, expected["squared_gradients"])


@pytest.mark.parametrize(
    ("model", "settings"),
    # The last: encoder and decoder states of one shape, with padding in the decoder's alone.
    [("bert", {}), ("mt5", {}), ("mt5", {"max_length": 8, "pad_to_multiple_of": 8})],
)
def test_activations_are_means_over_tokens_without_padding(model, settings, rows, request):
    base = request.getfixturevalue(model)
    found, module, batches = collected("activations", "xnli", base, rows, **settings)
    assert found.gradients is found.squared_gradients is None
    sums, tokens = defaultdict(float), defaultdict(int)

    def add(name: str) -> Any:
        def hook(layer: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            for vector in inputs[0].flatten(0, -2):  # of one example in a batch of its own: nothing is padded
                sums[name] += vector**2
                tokens[name] += 1

        return hook

    module.eval()
    handles = [layer.module.register_forward_hook(add(name)) for name, layer in prunable(module.model).items()]
    with torch.no_grad():
        for _, batch in batches:
            module(batch)
    for handle in handles:
        handle.remove()
    for name, values in found.activations.items():
        assert values.shape == module.subnet.weights[name].shape[1:]
        torch.testing.assert_close(values, (sums[name] / tokens[name]).float(), rtol=1e-5, atol=1e-7)


def test_activations_of_a_first_layer_are_those_worked_out_from_its_embeddings(bert, rows):
    found, module, batches = collected("activations", "xnli", bert, rows)
    with torch.no_grad():
        states = [module.model.bert.embeddings(batch["input_ids"], batch["token_type_ids"])[0] for _, batch in batches]
    expected = torch.cat(states).square().mean(0)
    name = "encoder.layer.0.attention.self.query.weight"
    torch.testing.assert_close(found.activations[name], expected.float(), rtol=1e-5, atol=1e-7)


def test_all_rows_are_taken_where_there_are_fewer_and_progress_is_told(bert, rows):
    told = []

    class Listener(RunCallback):
        def on_examples_scored(self, trainer: Trainer, done: int, total: int) -> None:
            told.append((done, total))

    found, module, batches = collected("fisher", "wikiann", bert, rows, examples=1024, callbacks=[Listener()])
    assert len(batches) == 17
    assert told == [(8, 17), (16, 17), (17, 17)]
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())
    assert found.gradients is found.activations is found.init is None
    assert_same(found.squared_gradients, naive(module, batches, sampled=False)["squared_gradients"])


def test_a_log_file_gets_a_line_with_the_round_that_is_scored(bert, rows):
    shown = io.StringIO()
    display = RoundProgress(Console(file=shown, width=200))
    collected("fisher", "wikiann", bert, rows, callbacks=[IMPCallback(score="fisher"), display])
    assert shown.getvalue() == "round 0/9 · sparsity 0.00 · scored 11/11 examples\n"


def test_sampled_labels_have_the_models_distribution_and_depend_on_seed_and_example_alone():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0]).repeat(5000, 1)
    labels = torch.zeros(5000, dtype=torch.int64)
    labels[::7] = IGNORED
    batch = {"labels": labels[None]}
    drawn = sampled_labels(logits[None], batch, np.array([5]), 1)[0]
    assert torch.equal(drawn == IGNORED, labels == IGNORED)
    counts = torch.bincount(drawn[drawn != IGNORED], minlength=4)
    expected = logits[0].softmax(-1) * counts.sum()
    assert ((counts - expected).abs() < 5 * expected.sqrt()).all()
    pair = sampled_labels(logits.repeat(2, 1, 1), {"labels": labels.repeat(2, 1)}, np.array([8, 5]), 1)
    assert torch.equal(pair[1], drawn)
    assert not torch.equal(pair[0], drawn)
    assert not torch.equal(sampled_labels(logits[None], batch, np.array([5]), 2)[0], drawn)
    # The inverse of the distribution function at the uniform numbers of the documented stream.
    uniform = torch.rand(int((labels != IGNORED).sum()), generator=generator_for("fisher", 1, "5"), dtype=torch.float64)
    edges = F.softmax(logits[0].double(), -1).cumsum(-1)
    assert drawn[drawn != IGNORED].tolist() == [int((edges <= u).sum()) for u in uniform.tolist()]


@pytest.mark.parametrize("score", ["taylor", "fisher"])
def test_a_weight_that_the_loss_does_not_reach_scores_0_and_is_named_once(score, bert, rows, caplog):
    trainer, module, data = made("wikiann", bert, rows)
    name = "encoder.layer.1.output.dense.weight"
    module.subnet.weights[name].requires_grad_(False)
    if score == "fisher":
        prunable(module.model)[name].module.register_forward_hook(lambda layer, inputs, output: output.detach())
    for _ in range(2):
        inputs = collect_inputs(score, trainer, module, data, {}, Sample(4))
        assert not scores.score(score, inputs)[name].any()
    (told,) = (record.getMessage() for record in caplog.records if "score is 0" in record.getMessage())
    assert "such as encoder.layer.1." in told
    assert f"their {score} score is 0" in told


@pytest.mark.parametrize("score", ["taylor", "fisher"])
def test_a_model_whose_loss_reaches_no_prunable_weight_is_refused(score, bert, rows):
    trainer, module, data = made("wikiann", bert, rows)
    module.model.base_model.requires_grad_(False)
    with pytest.raises(UserError, match=rf"loss of wikiann depends on none .* score {score} from: .*magnitude"):
        collect_inputs(score, trainer, module, data, {}, Sample(4))
    assert module.training
