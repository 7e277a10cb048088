"""Parts of speech: words and tags from CoNLL-U and the Hub's columns to a run of `lnsub fit`."""

from pathlib import Path

import datasets
import pytest
from sklearn.metrics import accuracy_score
from torch.nn import functional as F  # noqa: N812 (torch's own convention)

from lnsub import UDPOS
from lnsub.cli.main import main
from lnsub.common.errors import UserError
from lnsub.data.batching import IGNORED
from lnsub.runs.records import read
from lnsub.tasks import tasks
from lnsub.tasks.udpos import TREEBANKS, UDPOSTask
from lnsub.tickets.ticket import Ticket
from tests.support.data_makers import batches, write_rows

TAGS = UDPOSTask.labels
TOKENS = [["the", "cats", "sat"], ["Ann", "ran", "home", "and", "sat"], ["red", "x", "dogs"]]
UPOS = [["DET", "NOUN", "VERB"], ["PROPN", "VERB", "ADV", "CCONJ", "VERB"], ["ADJ", "_", "NOUN"]]
CONFIG = Path(__file__).parents[2] / "configs" / "udpos_fr.yaml"


def conllu(repeats: int) -> str:
    """The sentences above as a treebank has them, "Ann ran" also as a multiword token, with an empty node."""
    lines = []
    for tokens, tags in zip(TOKENS * repeats, UPOS * repeats, strict=True):
        lines.append(f"# text = {' '.join(tokens)}")
        for number, (token, tag) in enumerate(zip(tokens, tags, strict=True), 1):
            if token == "Ann":
                lines.append("1-2\tAnn'ran" + "\t_" * 8)
            lines.append(f"{number}\t{token}\t{token}\t{tag}\t_\t_\t{number - 1}\tdep\t_\t_")
        lines += ["9.1\tgone\tgo\tVERB" + "\t_" * 6, ""]
    return "\n".join(lines) + "\n"


@pytest.fixture
def data(tmp_path: Path, cache: Path) -> Path:
    (tmp_path / "ud" / "fr").mkdir(parents=True)
    for split, repeats in (("train", 6), ("validation", 1), ("test", 1)):
        (tmp_path / "ud" / "fr" / f"{split}.conllu").write_text(conllu(repeats), encoding="utf-8")
    return tmp_path / "ud"


def test_words_of_conllu_and_classes_by_number_give_the_same_labels(data, bert):
    rows = UDPOS("fr", bert, str(data)).table("validation").with_format(None).to_list()
    det, noun, verb = map(TAGS.index, ("DET", "NOUN", "VERB"))
    assert rows[0]["labels"] == [IGNORED, det, noun, IGNORED, verb, IGNORED]  # [CLS] the cat ##s sat [SEP]
    assert [sum(label != IGNORED for label in row["labels"]) for row in rows] == [3, 5, 2]
    names = ["NOUN", "_", *(tag for tag in TAGS if tag != "NOUN")]
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "upos": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    numbers = [[names.index(tag) for tag in tags] for tags in UPOS]
    write_rows(data / "xx" / "validation.parquet", {"tokens": TOKENS, "upos": numbers}, features)
    assert UDPOS("xx", bert, str(data)).table("validation").with_format(None).to_list() == rows
    null = [[None if tag == "_" else tag for tag in tags] for tags in UPOS]
    write_rows(data / "yy" / "validation.parquet", {"tokens": TOKENS, "upos": null})
    assert UDPOS("yy", bert, str(data)).table("validation").with_format(None).to_list() == rows


def test_the_accuracy_is_that_of_scikit_learn_over_all_words(data, bert):
    module = UDPOS("fr", bert, str(data), eval_tokens_per_batch=10)
    model, _ = module.task.build(bert)
    assert model.config.id2label == dict(enumerate(TAGS))
    metrics, gold, predicted = module.task.metrics(), [], []
    for batch in batches(module.val_dataloader()):
        logits = module.task.forward(model.eval(), batch)
        logits += 9 * F.one_hot(batch["labels"].clamp(min=0), len(TAGS)) * (batch["index"][:, None, None] > 0)
        metrics.update(logits, batch["labels"])
        for row in module.task.decode(logits, batch):
            assert row["tags"] == [tag for tag in UPOS[row["index"]] if tag != "_"]
            gold += row["tags"]
            predicted += row["predictions"]
    assert len(gold) == 10
    accuracy = metrics.compute()["accuracy"].item()
    assert accuracy == accuracy_score(gold, predicted)
    assert 0.7 <= accuracy < 1


def test_a_language_has_a_treebank_on_the_hub_unless_one_is_named(bert, cache, tmp_path):
    lines = ["---", "configs:"]
    for name, upos in (("fr_gsd", "NOUN"), ("fr_sequoia", "VERB"), ("sw_new", "ADJ")):
        write_rows(tmp_path / "hub" / name / "train.parquet", {"tokens": [["cat"]], "upos": [[upos]]})
        lines += [f"- config_name: {name}", f"  data_files: [{{split: dev, path: {name}/train.parquet}}]"]
    (tmp_path / "hub" / "README.md").write_text("\n".join([*lines, "---", ""]))

    def label(language: str, **settings: str) -> str:
        module = UDPOS(language, bert, "hub/treebanks", **settings)
        source = module.open()
        source.dataset = str(tmp_path / "hub")  # in the place of the Hub's name, which tests do not reach
        return source.read("validation")["upos"][0][0]

    assert label("fr") == "NOUN"
    assert label("fr", treebank="sequoia") == "VERB"
    assert label("sw", treebank="new") == "ADJ"
    with pytest.raises(UserError, match=r"'sw'.*treebank"):
        label("sw")
    assert set(TREEBANKS) == {"ar", "de", "en", "es", "fa", "fr", "hi", "ru", "ur", "zh"}


def test_two_rounds_through_the_command_line_leave_tickets_and_records(data, bert, tmp_path):
    settings = {
        "model.base_model": bert,
        "data.init_args.dataset": data,
        "data.init_args.batch_size": 4,
        "data.init_args.num_workers": 0,
        "trainer.accelerator": "cpu",
        "trainer.precision": 32,
        "trainer.max_epochs": 1,
        "trainer.callbacks.sparsities": "[0.3,0.6]",
        "wandb": "null",
        "output": tmp_path / "runs",
    }
    assert main(["fit", f"--config={CONFIG}", *(f"--{key}={value}" for key, value in settings.items())]) == 0
    folder = tmp_path / "runs" / "udpos" / "fr" / "seed57"
    tickets = [Ticket.load(path) for path in sorted((folder / "tickets").iterdir())]
    assert [(t.provenance.task, t.provenance.metric.split("=")[0]) for t in tickets] == [("udpos", "accuracy")] * 2
    assert [t.provenance.sparsity for t in tickets] == pytest.approx([0.3, 0.6], abs=1e-3)
    records = read(folder / "results.jsonl")
    assert [(r.round, r.task, r.metric, r.n) for r in records] == [(n, "udpos", "accuracy", 10) for n in range(3)]
    assert all(0 <= record.value <= 1 for record in records)
    assert main(["export", str(tickets[0].path), f"--output={tmp_path / 'exported'}"]) == 0
    assert "token-classification" in (tmp_path / "exported" / "README.md").read_text()
    assert tasks()["udpos"] is UDPOSTask
