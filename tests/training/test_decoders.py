"""Decoders on every kind of task: fitted, resumed after an interruption, transferred, exported and loaded again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from transformers import AutoTokenizer

from lnsub.cli.main import main
from lnsub.models.heads import is_added
from lnsub.tasks.clm import CausalLM
from lnsub.tasks.task import LanguageDataModule
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from lnsub.training.module import SubnetModule
from tests.support.decoders import TEXT, make_decoder
from tests.support.resuming import Place, Plug, Unplugged, run

CASES = [
    ("qwen3", XNLI, {}),
    ("qwen3", WikiANN, {}),
    ("qwen3", CausalLM, {}),
    ("llama", XNLI, {}),
    ("llama", WikiANN, {"dtype": "bfloat16"}),
    ("bloom", XNLI, {"attention": "eager"}),
    ("bloom", WikiANN, {"attention": "eager"}),
    ("gemma3", WikiANN, {}),
    ("gemma3", CausalLM, {"dtype": "bfloat16"}),
]


def rows(task: type[LanguageDataModule], count: int) -> list[dict[str, Any]]:
    words = " ".join(TEXT).split()
    texts = [[words[(i * k + k) % len(words)] for k in range(1, 5 + i % 5)] for i in range(count)]
    if task is XNLI:
        return [{"premise": " ".join(text), "hypothesis": text[-1], "label": i % 3} for i, text in enumerate(texts)]
    if task is WikiANN:
        return [{"tokens": text, "ner_tags": [int(word[0].isupper()) for word in text]} for text in texts]
    return [{"text": " ".join(text)} for text in texts]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, cache: Path) -> Place:
    """A decoder of a kind, and rows of a task in two languages."""
    kind, task = request.param
    for language in ("aa", "bb"):
        for split, count in (("train", 40), ("validation", 12)):
            path = tmp_path / "data" / language / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows(task, count + len(language))))
    return Place(make_decoder(tmp_path / "base", kind), str(tmp_path / "data"))


@pytest.mark.parametrize(("place", "task", "model"), [((kind, t), t, m) for kind, t, m in CASES], indirect=["place"])
def test_a_decoder_is_fitted_resumed_transferred_and_exported(place, task, model, tmp_path, capsys):
    settings: dict[str, Any] = {"imp": {"sparsities": [0.5]}, "task": task, "model": model, "data": {"language": "aa"}}
    whole = run(place, tmp_path / "whole", every=None, **settings)
    with pytest.raises(Unplugged):
        run(place, tmp_path / "cut", [Plug("on_train_batch_start", 7)], every=3, **settings)
    assert run(place, tmp_path / "cut", every=3, **settings) == whole

    (ticket,) = (tmp_path / "whole" / "tickets").iterdir()
    config = {
        "model": {"base_model": place.base, **model},
        "data": {
            "class_path": f"lnsub.{task.__name__}",
            "init_args": {"language": "aa", "dataset": place.data, "max_length": 32},
        },
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    moved = tmp_path / "moved"
    common = ["--config", str(tmp_path / "config.yaml"), "--tickets", str(ticket), "--languages", "bb"]
    assert main(["transfer", *common, "--output", str(moved), "--keep-checkpoints"]) == 0, capsys.readouterr().err
    (results,) = moved.glob("cells/*/results.jsonl")
    measured = [json.loads(line) for line in results.read_text().splitlines()]
    assert {(row["source"], row["target"]) for row in measured} == {("aa", "bb")}
    assert task.task_class.metric in {row["metric"] for row in measured}

    (checkpoint,) = moved.rglob("last.ckpt")
    exported = tmp_path / "exported"
    arguments = ["export", str(ticket), "--checkpoint", str(checkpoint), "--output", str(exported)]
    assert main([*arguments, "--base-model", place.base]) == 0, capsys.readouterr().err
    expected = SubnetModule(task.task_class(place.base), place.base, **model)
    expected.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    attention = {"attn_implementation": model["attention"]} if "attention" in model else {}
    auto = getattr(transformers, task.task_class.auto_class)
    loaded = auto.from_pretrained(exported, **attention, dtype=next(expected.parameters()).dtype).eval()
    inputs = AutoTokenizer.from_pretrained(exported)(TEXT, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, expected.model.eval()(**inputs).logits)
    assert ("add_missing_head(" in (exported / "README.md").read_text()) == is_added(loaded)
