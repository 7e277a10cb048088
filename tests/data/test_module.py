"""What all tasks share: where rows come from, the cache of tokenised rows, checkpoints, and what is refused."""

import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from torch import distributed, nn
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModel

from lnsub.common.errors import UserError
from lnsub.data.rows import HubRows
from lnsub.models.attention import SDPA
from lnsub.models.pretrained import load_tokenizer, looks_local, tokenizer_fingerprint
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tasks.task import LanguageDataModule
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from tests.support.data_makers import batches, write_rows

LABELS = ["entailment", "neutral", "contradiction"]


def pairs(count: int, language: str = "fr") -> dict[str, list]:
    premises = [f"the cat sat on a {'red ' * (i % 7)}mat" for i in range(count)]
    return {"premise": premises, "hypothesis": [f"{language} cats ran"] * count, "label": [i % 3 for i in range(count)]}


@pytest.fixture
def data(tmp_path: Path, cache: Path) -> Path:
    """XNLI in two languages; only fr has a test split."""
    for language in ("fr", "zh"):
        for split, count in (("train", 40), ("validation", 11)):
            write_rows(tmp_path / "data" / language / f"{split}.parquet", pairs(count, language))
    write_rows(tmp_path / "data" / "fr" / "test.parquet", pairs(7))
    return tmp_path / "data"


def rows(table: datasets.Dataset) -> list[dict]:
    return table.with_format(None).to_list()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
@pytest.mark.parametrize("named", [True, False])
def test_a_file_of_any_type_gives_the_same_rows(data, bert, suffix, named):
    columns = pairs(9)
    columns["premise"][3:6] = ["null", "1984", 'a "red",\ncat']
    write_rows(data / "a" / "train.parquet", columns)
    labels = [LABELS[label] for label in columns["label"]] if named else columns["label"]
    write_rows(data / "b" / f"train{suffix}", {**columns, "label": labels})
    expected = rows(XNLI("a", bert, str(data)).table("train"))
    assert [row["index"] for row in expected] == list(range(9))
    assert rows(XNLI("b", bert, str(data)).table("train")) == expected


def test_named_classes_are_read_by_name_not_by_number(data, bert):
    text, label = datasets.Value("string"), datasets.ClassLabel(names=LABELS[::-1])
    features = datasets.Features({"premise": text, "hypothesis": text, "label": label})
    write_rows(data / "fr" / "train.parquet", pairs(6), features)
    assert XNLI("fr", bert, str(data)).table("train")["labels"][:] == [2, 1, 0, 2, 1, 0]


def test_tokenised_rows_are_used_again_by_the_next_run(data, cache, bert):
    XNLI("fr", bert, str(data)).prepare_data()
    written = {path: path.stat() for path in cache.iterdir()}
    assert sorted(path.name.split("-")[2] for path in written) == ["test", "train", "validation"]
    moved = data.parent / "elsewhere"
    shutil.copytree(data, moved)  # new paths and times, the same content
    load_tokenizer(bert)("a", truncation=True, max_length=3, padding="max_length")  # leaves a state behind
    XNLI("fr", bert, str(moved), batch_size=2, seed=9).prepare_data()
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == {p: s.st_mtime_ns for p, s in written.items()}


@pytest.mark.slow
def test_another_process_uses_the_same_tokenised_rows(data, cache, bert):
    module = XNLI("fr", bert, str(data))
    module.table("train")
    (path,) = cache.iterdir()
    before = path.stat()
    # Without its encoder a data module can only read what is in the cache.
    code = (
        "import sys; from lnsub import XNLI\nXNLI.encoder = None\nprint(len(XNLI('fr', *sys.argv[1:]).table('train')))"
    )
    environment = {**os.environ, "HF_DATASETS_CACHE": str(cache.parent), "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code, bert, str(data)], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["40"]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_whatever_changes_the_tokens_makes_a_new_table(data, cache, bert, mt5):
    def tables(language: str = "fr", tokenizer: str = bert, **settings: int) -> int:
        XNLI(language, tokenizer, str(data), **settings).table("train")
        return len(list(cache.iterdir()))

    assert tables() == 1
    assert tables(max_length=12) == 2
    assert tables(max_train_examples=5) == 3
    assert tables(max_eval_examples=5) == 3  # does not concern the train split
    assert tables(tokenizer=mt5) == 4
    assert tables(language="zh") == 5
    write_rows(data / "fr" / "train.parquet", pairs(39))
    assert tables() == 6


def test_the_fingerprint_of_a_tokenizer_is_that_of_its_content(bert, tmp_path):
    before = tokenizer_fingerprint(bert)
    copy = shutil.copytree(bert, tmp_path / "copy")
    load_tokenizer(str(copy))("a", truncation=True, max_length=3, padding="max_length")
    assert tokenizer_fingerprint(str(copy)) == before
    changed = shutil.copytree(bert, tmp_path / "changed")
    text = (changed / "tokenizer.json").read_text(encoding="utf-8")
    (changed / "tokenizer.json").write_text(text.replace('"mat"', '"hat"'), encoding="utf-8")
    assert tokenizer_fingerprint(str(changed)) != before


def test_a_subset_is_drawn_once_for_all_and_alike_in_parallel_languages(data, bert):
    def chosen(language: str, **settings: int) -> list[int]:
        return XNLI(language, bert, str(data), **settings).table("train")["index"][:]

    subset = chosen("fr", max_train_examples=10, seed=1)
    assert len(set(subset)) == 10
    assert subset != list(range(10))
    assert subset == chosen("zh", max_train_examples=10, seed=2)
    assert chosen("fr", max_train_examples=1000) == list(range(40))
    module = XNLI("fr", bert, str(data), max_eval_examples=3)
    assert [len(module.table(split)) for split in ("train", "validation", "test")] == [40, 3, 3]


def test_rows_without_text_are_skipped_and_counted(data, bert, caplog):
    columns = pairs(5)
    columns["premise"][1] = columns["hypothesis"][1] = "  "
    columns["premise"][2] = ""
    write_rows(data / "fr" / "train.parquet", columns)
    with caplog.at_level(logging.INFO, "lnsub"):
        table = XNLI("fr", bert, str(data)).table("train")
    assert table["index"][:] == [0, 2, 3, 4]
    assert "left out 1 rows without any text" in caplog.text
    write_rows(data / "fr" / "train.parquet", {"premise": [""], "hypothesis": [" "], "label": [0]})
    with pytest.raises(UserError, match=r"train\.parquet' has no row from which the tokenizer .* makes any token"):
        XNLI("fr", bert, str(data)).table("train")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: shutil.rmtree(d), "There is no data folder '.*data'"),
        (lambda d: shutil.rmtree(d / "fr"), "has no language 'fr': it has zh"),
        (lambda d: (d / "fr" / "train.parquet").unlink(), "has no train split for 'fr': it has validation, test"),
        (lambda d: (d / "fr" / "train.parquet").write_bytes(b"nothing"), r"train\.parquet' cannot be read: "),
        (lambda d: write_rows(d / "fr" / "train.csv", pairs(3)), r"has both train\.parquet and train\.csv"),
        (
            lambda d: write_rows(d / "fr" / "train.parquet", {"premise": ["a"], "text": ["b"]}),
            r"train\.parquet' has no column hypothesis, label: it has premise, text",
        ),
        (
            lambda d: write_rows(
                d / "fr" / "train.parquet",
                {"premise": [], "hypothesis": [], "label": []},
                datasets.Features({c: datasets.Value("string") for c in ("premise", "hypothesis", "label")}),
            ),
            r"train\.parquet' has no rows",
        ),
        (
            lambda d: write_rows(d / "fr" / "train.parquet", {**pairs(3), "label": [0, 1, 3]}),
            r"train\.parquet', row 2 \(counting from 0\) has the label 3: it must be one of 0 entailment, 1 neutral",
        ),
        (
            lambda d: write_rows(d / "fr" / "train.parquet", {**pairs(2), "premise": ["a", None]}),
            r"train\.parquet', row 1 .*: the premise or the hypothesis is not a string",
        ),
    ],
)
def test_what_is_wrong_with_the_data_is_said_in_one_sentence(data, bert, break_it, message):
    break_it(data)
    with pytest.raises(UserError, match=message):
        XNLI("fr", bert, str(data)).table("train")


def test_a_wrong_row_of_a_subset_is_named_by_its_number_in_the_file(data, bert):
    labels = [7 if number == 25 else 0 for number in range(40)]
    write_rows(data / "fr" / "train.parquet", {**pairs(40), "label": labels})
    messages = set()
    for limit in range(5, 41, 5):
        try:
            XNLI("fr", bert, str(data), max_train_examples=limit).table("train")
        except UserError as error:
            messages.add(str(error).split(", ")[1].split(" has")[0])
    assert messages == {"row 25 (counting from 0)"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 7}, "max_length is 7: it must be at least 8"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"tokens_per_batch": 0}, "tokens_per_batch is 0"),
        ({"max_train_examples": 0}, "max_train_examples is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"language": ""}, "language is empty"),
    ],
)
def test_an_argument_out_of_range_is_refused_at_once(settings, message):
    for task in (XNLI, WikiANN, WikipediaMLM):
        with pytest.raises(UserError, match=message):
            task(**{"language": "fr", "tokenizer": "x", **settings})


def test_inputs_longer_than_the_model_takes_are_refused(data, bert):
    with pytest.raises(UserError, match=r"max_length is 129, but .* takes at most 128"):
        XNLI("fr", bert, str(data), max_length=129).setup("fit")


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("facebook/xnli", False),
        ("wikiann", False),
        ("./data", True),
        ("../data/xnli", True),
        ("~/data", True),
        ("/data", True),
        ("a/b/c", True),
    ],
)
def test_a_name_that_is_written_like_a_path_is_local(name, local):
    assert looks_local(name) == local


def test_a_relative_folder_that_exists_is_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not looks_local("data/xnli")
    (tmp_path / "data" / "xnli").mkdir(parents=True)
    assert looks_local("data/xnli")


@pytest.fixture
def hub(data: Path) -> str:
    """The data as a repository of the Hub is laid out: one configuration per language, named with a prefix."""
    lines = ["---", "configs:"]
    for language in ("fr", "zh"):
        lines += [f"- config_name: 2023.{language}", "  data_files:"]
        for split in ("train", "validation"):
            lines += [f"  - split: {split}", f"    path: {language}/{split}.parquet"]
    (data / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")
    return str(data)


def test_a_hub_data_set_is_read_by_configuration(hub, cache):
    source = HubRows(hub, "zh", ["premise", "label"], prefix="2023.")
    assert source.splits() == ["train", "validation"]
    read = source.read("validation")
    assert read.column_names == ["premise", "label"]
    assert len(read) == 11
    again = HubRows(hub, "zh", ["premise", "label"], prefix="2023.")
    assert again.fingerprint("train") == source.fingerprint("train") != source.fingerprint("validation")
    assert HubRows(hub, "fr", ["premise"], prefix="2023.").fingerprint("train") != source.fingerprint("train")
    with pytest.raises(UserError, match="has no test split for 'zh': it has train, validation"):
        source.read("test")
    with pytest.raises(UserError, match=r"The train split of '.*' \(zh\) has no column text: it has premise"):
        HubRows(hub, "zh", ["text"], prefix="2023.").read("train")


def test_an_unknown_language_of_a_hub_data_set_names_those_there_are(hub, cache):
    with pytest.raises(UserError, match="has no language 'xx': it has fr, zh"):
        HubRows(hub, "xx", ["premise"], prefix="2023.").splits()


@pytest.mark.parametrize("task", [XNLI, WikiANN, WikipediaMLM])
def test_a_hub_that_cannot_be_reached_is_one_sentence(task, bert, cache):
    with pytest.raises(UserError, match="neither a folder here nor a data set that could be fetched"):
        task("fr", bert).table("train")


class Recorder(LightningModule):
    """Writes down which rows each stage sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: dict[str, list[int]] = {"fit": [], "validate": [], "test": [], "predict": []}

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen["fit"] += batch["index"].tolist()
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.seen["validate"] += batch["index"].tolist()

    def test_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        self.seen["test"] += batch["index"].tolist()

    def predict_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen["predict"] += batch["index"].tolist()
        return batch["labels"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(("language", "predicted"), [("fr", 7), ("zh", 11)])
def test_each_stage_of_a_trainer_gets_its_split(data, bert, language, predicted):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model, module = Recorder(), XNLI(language, bert, str(data))
    trainer.fit(model, datamodule=module)
    trainer.predict(model, datamodule=module)
    assert {stage: sorted(seen) for stage, seen in model.seen.items()} == {
        "fit": list(range(40)),
        "validate": list(range(11)),
        "test": [],
        "predict": list(range(predicted)),
    }
    if language == "fr":
        trainer.test(model, datamodule=module)
        assert sorted(model.seen["test"]) == list(range(7))
    else:
        with pytest.raises(UserError, match="has no test split for 'zh'"):
            trainer.test(model, datamodule=module)


def test_workers_give_the_batches_of_the_main_process(data, bert):
    here, workers = (
        [{k: v.tolist() for k, v in batch.items()} for batch in batches(module.train_dataloader())]
        for module in (XNLI("fr", bert, str(data), batch_size=8, num_workers=n) for n in (0, 2))
    )
    assert here == workers


def test_lengths_can_be_padded_to_a_multiple(data, bert):
    module = XNLI("fr", bert, str(data), batch_size=8, pad_to_multiple_of=8)
    assert all(batch["input_ids"].shape[1] % 8 == 0 for batch in batches(module.train_dataloader()))
    (batch,) = batches(XNLI("fr", bert, str(data)).test_dataloader())
    assert batch["input_ids"].shape[1] == batch["attention_mask"].sum(1).max()


@pytest.mark.parametrize("task", [XNLI, WikiANN, WikipediaMLM])
def test_a_config_can_build_every_data_module_and_its_help_says_what_each_argument_is(task, capsys):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LanguageDataModule, "data")
    path = f"lnsub.{task.__name__}"
    arguments = ["language=fr", "tokenizer=x", "max_eval_examples=5"]
    config = parser.parse_args([f"--data={path}", *(f"--data.{argument}" for argument in arguments)])
    module = parser.instantiate_classes(config).data
    assert type(module) is task
    assert (module.language, module.max_eval_examples, module.batch_size) == ("fr", 5, 32)
    assert pickle.loads(pickle.dumps(module.task)) == module.task
    with pytest.raises(SystemExit):
        parser.parse_args([f"--data.help={path}"])
    options = re.split(r"\n  --data\.", capsys.readouterr().out)[1:]
    assert {option.split()[0] for option in options} == set(vars(config.data.init_args))
    for option in options:
        _name, _metavar, *words = re.sub(r"\((required,\s+)?type:.*", "", option, flags=re.DOTALL).split()
        assert len(words) > 3, option


@pytest.mark.parametrize("task", [XNLI, WikiANN, WikipediaMLM])
def test_a_model_is_built_quietly_in_float32_with_a_new_head(task, bert, tmp_path, capfd):
    half = tmp_path / "half"
    AutoModel.from_pretrained(bert).half().save_pretrained(half)
    expected = AutoModel.from_pretrained(half, dtype=torch.float32).state_dict()
    capfd.readouterr()
    model, missing = task("fr", bert).task.build(str(half))
    assert capfd.readouterr() == ("", "")
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert missing
    assert missing < names
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    for name, value in model.state_dict().items():
        if name.removeprefix("bert.") in expected and name not in missing:
            assert torch.equal(value, expected[name.removeprefix("bert.")])
    assert not [name for name in missing if ".encoder." in name or ".embeddings." in name]


def test_a_random_model_has_the_shapes_but_none_of_the_weights(bert):
    task = XNLI("fr", bert).task
    pretrained, _ = task.build(bert)
    torch.manual_seed(5)
    random, missing = task.build(bert, init="random")
    torch.manual_seed(5)
    again, _ = task.build(bert, init="random")
    assert missing == {name for name, _ in random.named_parameters()}
    name = "bert.encoder.layer.0.attention.self.query.weight"
    values = [model.get_parameter(name) for model in (pretrained, random, again)]
    assert values[0].shape == values[1].shape
    assert not torch.equal(values[0], values[1])
    assert torch.equal(values[1], values[2])


def test_the_attention_implementation_is_the_one_asked_for(bert):
    task = XNLI("fr", bert).task
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    outputs = []
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        model, _ = task.build(bert, attention=attention)
        assert model.config._attn_implementation == {"eager": "eager", "sdpa": SDPA}[attention]
        outputs.append(model.eval()(ids, attention_mask=(ids > 0).long()).logits)
    torch.testing.assert_close(*outputs)
    with pytest.raises(UserError, match="cannot be loaded"):
        task.build(bert, attention="nonesuch")


def test_a_head_of_another_size_in_the_checkpoint_is_replaced(bert, tmp_path):
    model, _ = WikiANN("fr", bert).task.build(bert)
    model.save_pretrained(tmp_path)
    model.config.num_labels = 9
    type(model)(model.config).save_pretrained(tmp_path)
    model, missing = WikiANN("fr", bert).task.build(str(tmp_path))
    assert model.classifier.out_features == 7
    assert missing == {"classifier.weight", "classifier.bias"}


def test_a_base_model_that_cannot_be_used_is_refused_in_one_sentence(bert, mt5, tmp_path):
    build = WikiANN("fr", bert).task.build
    with pytest.raises(UserError, match=r"There is no folder '.*gone'"):
        build(str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"holds no Hugging Face model: it has no config\.json"):
        build(str(tmp_path))
    with pytest.raises(UserError, match="'no/model' is neither a folder here nor a model that could be fetched"):
        build("no/model")
    with pytest.raises(UserError, match=r"is an encoder-decoder .*and wikiann is for encoders only"):
        build(mt5)
    with pytest.raises(UserError, match=r"is an encoder-decoder .*and mlm is for encoders only"):
        WikipediaMLM("fr", bert).task.build(mt5)
    broken = shutil.copytree(bert, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"The model in '.*broken' cannot be loaded: "):
        build(str(broken))
    (broken / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(UserError, match="cannot be loaded: "):
        build(str(broken))


def test_evaluation_reads_every_row_once_over_all_processes(data, bert):
    seen: list[int] = []
    for rank in range(3):
        distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=3)
        try:
            for batch in batches(XNLI("fr", bert, str(data)).val_dataloader()):
                seen += batch["index"].tolist()
        finally:
            distributed.destroy_process_group()
    assert sorted(seen) == list(np.arange(11))
