"""Similarity by layer on the embedded model, dense and under tickets; the command, its errors and its records."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lnsub.analysis.parallel.embedding import SentenceEncoder
from lnsub.analysis.parallel.sources import read_pairs
from lnsub.analysis.similarity.measures import biased_cka, cka, pwcca, svcca
from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.runs.records import read
from lnsub.tickets.ticket import Ticket
from tests.support.sentence_models import ticket_of

N = 270  # PWCCA needs twice the 128 dimensions of the model
FEW = ["--resamples=4", "--shuffles=4"]


@pytest.fixture(scope="module")
def base(root: Path) -> str:
    return str(root / "lnsub" / "demo" / "model")


@pytest.fixture(scope="module")
def pairs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of "copy" a sentence is its own translation, of "turned" its words in another order, of "rest" another one."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = pd.read_parquet(root / "lnsub" / "demo" / "data" / "en" / "train.parquet")["tokens"]
    sentences = list(dict.fromkeys(" ".join(words) for words in rows))
    first = sentences[:N]
    turned = [" ".join([*text.split()[2:], *text.split()[:2]]) for text in first]
    for name, other in (("copy", first), ("turned", turned), ("rest", sentences[N : 2 * N])):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("en", "other"), *zip(first, other, strict=True)])
    return folder


@pytest.fixture(scope="module")
def tickets(base: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tickets")
    full = ticket_of(base, lambda w: w.abs() >= 0, language="fr", sparsity=0.0, round=0)
    half = ticket_of(base, lambda w: w > 0, language="ur", sparsity=0.5)
    return {"full": full.save(folder / "full.safetensors"), "half": half.save(folder / "half.safetensors")}


def similarity(capsys: pytest.CaptureFixture, *args: object) -> list[dict]:
    assert run("similarity", ["--device=cpu", "--format=json", *map(str, args)]) == 0
    return json.loads(capsys.readouterr().out)


def test_copies_are_the_same_and_unrelated_sentences_are_as_shuffled_ones(capsys, base, pairs):
    rows = similarity(
        capsys, f"--base-model={base}", "--pairs", pairs, "--layers=1,4", "--resamples=10", "--shuffles=20"
    )
    assert [(r["target"], r["layer"], r["measure"]) for r in rows] == [
        (target, layer, name)
        for target in ("copy", "rest", "turned")
        for layer in (1, 4)
        for name in ("cka", "svcca", "pwcca")
    ]
    for row in rows:
        assert (row["ticket"], row["pivot"], row["pairs"]) == ("dense", "en", N)
        assert row["null_low"] <= row["null"] <= row["null_high"]
        assert row["low"] <= row["value"] <= row["high"]
        assert abs(row["null"]) < 0.02 if row["measure"] == "cka" else row["null"] > 0.1
        if row["target"] == "copy":
            assert row["value"] == pytest.approx(1.0)
        elif row["target"] == "turned":
            assert row["null_high"] < row["value"] < 1
        else:
            assert row["value"] == pytest.approx(row["null"], abs=0.03)


def test_values_are_those_of_the_states_dense_and_under_tickets(capsys, base, pairs, tickets):
    args = [f"--base-model={base}", "--pairs", pairs / "turned.csv", "--layers=0,3", "--measures=cka,svcca,biased_cka"]
    rows = similarity(capsys, *args, "--tickets", *tickets.values(), "--resamples=0", "--shuffles=0")
    values = {(r["ticket"], r["layer"], r["measure"]): r["value"] for r in rows}
    assert {r["null"] for r in rows} == {r["low"] for r in rows} == {None}
    sentences = read_pairs(pairs / "turned.csv")
    encoder = SentenceEncoder(base, "cpu")
    for label, ticket in (("dense", None), ("xnli/ur/seed0/s0.50", Ticket.load(tickets["half"]))):
        encoder.apply_ticket(ticket)
        x, y = (encoder.embed(encoder.tokenise(text), (0, 3)) for text in (sentences.first, sentences.second))
        for place, layer in enumerate((0, 3)):
            for measure in (cka, svcca, biased_cka):
                expected = measure(x[place], y[place])
                assert values[label, layer, measure.__name__] == pytest.approx(expected, abs=1e-5)
    for layer, name in ((0, "cka"), (3, "svcca")):
        assert values["xnli/fr/seed0/s0.00", layer, name] == values["dense", layer, name]
    assert values["xnli/ur/seed0/s0.50", 3, "cka"] != pytest.approx(values["dense", 3, "cka"], abs=1e-3)


def test_pwcca_weights_the_pivots_directions(capsys, base, pairs):
    args = ["--pairs", pairs / "turned.csv", "--layers=4", "--measures=pwcca", "--resamples=0", "--shuffles=0"]
    there, back = (
        similarity(capsys, f"--base-model={base}", *args, f"--columns={names}")[0] for names in ("en,other", "other,en")
    )
    sentences, encoder = read_pairs(pairs / "turned.csv"), SentenceEncoder(base, "cpu")
    x, y = (encoder.embed(encoder.tokenise(text), (4,))[0] for text in (sentences.first, sentences.second))
    assert there["value"] == pytest.approx(pwcca(x, y), abs=1e-5)
    assert back["value"] == pytest.approx(pwcca(y, x), abs=1e-5)
    assert (there["pivot"], there["target"], back["pivot"], back["target"]) == ("en", "turned", "other", "en")
    assert there["directions"] <= 128


def test_states_that_are_all_the_same_have_no_value_and_that_is_said(capsys, base, pairs, tmp_path):
    args = [f"--base-model={base}", "--pairs", pairs / "turned.csv", "--pooling=first", "--layers=0,1", *FEW]
    rows = similarity(capsys, *args, "--record", tmp_path)
    assert [(r["value"], r["low"], r["null"]) for r in rows[:3]] == [(None, None, None)] * 3
    assert all(r["value"] is not None for r in rows[3:])
    assert {(r.metric, r.layer) for r in read(tmp_path / "results.jsonl")} == {
        (f"{name}/first", 1) for name in ("cka", "svcca", "pwcca")
    }
    assert run("similarity", ["--device=cpu", *map(str, args)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "similarity, first"
    assert "dense on turned: all states of layer 0 are the same, so that nothing can be compared." in out


def test_few_sentences_an_axis_are_cautioned_against(capsys, base, pairs):
    args = [f"--base-model={base}", "--pairs", pairs / "turned.csv", "--layers=4", "--max-pairs=40", *FEW]
    assert run("similarity", [*map(str, args), "--device=cpu", "--measures=svcca"]) == 0
    out, err = capsys.readouterr()
    assert "dense on turned: in layer 4 the canonical correlations are of fewer than two sentences an axis" in out
    assert err.startswith("1/1 dense on turned: last layer svcca ")


def test_records_hold_every_number_once_however_often_it_is_measured(capsys, base, pairs, tickets, tmp_path):
    args = [f"--base-model={base}", "--pairs", pairs / "turned.csv", "--tickets", tickets["half"], "--layers=2,4"]
    args += [*FEW, "--record", tmp_path]
    rows = similarity(capsys, *args)
    records = read(tmp_path / "results.jsonl")
    assert len(records) == len(rows) == 2 * 2 * 3
    for record, row in zip(records, rows, strict=True):
        assert (record.kind, record.task, record.n, record.split) == ("similarity", "similarity", N, "pairs")
        assert record.metric == f"{row['measure']}/mean"
        for name in ("layer", "value", "low", "high", "null", "null_low", "null_high", "source", "target", "sparsity"):
            assert getattr(record, name) == row[name], name
    assert {r.ticket for r in records} == {None, Ticket.load(tickets["half"]).checksum}
    similarity(capsys, *args)
    assert read(tmp_path / "results.jsonl") == records


def test_parallel_texts_are_read_row_by_row(capsys, base, pairs, tmp_path):
    table = pd.read_csv(pairs / "turned.csv")
    for language, column in (("en", "en"), ("fr", "other"), ("ru", "en")):
        (tmp_path / language).mkdir()
        pd.DataFrame({"premise": table[column], "label": np.arange(N)}).to_parquet(tmp_path / language / "test.parquet")
    args = [f"--base-model={base}", "--layers=2", "--measures=cka", *FEW]
    rows = similarity(capsys, *args, "--texts", tmp_path, "--column=premise", "--languages=fr,ru")
    (expected,) = similarity(capsys, *args, "--pairs", pairs / "turned.csv")
    assert rows[0] == expected | {"target": "fr"}
    assert (rows[1]["target"], rows[1]["value"]) == ("ru", pytest.approx(1.0))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--max-pairs=255"], r"'\w+' has 255 sentence pairs, but PWCCA of states of 128 dimensions needs 256"),
        (["--max-pairs=9"], "has 9 sentence pairs: similarity needs at least 10"),
        (["--measures=cka,rsa"], "There is no measure 'rsa': choose from cka, svcca, pwcca, biased_cka"),
        (["--measures=,"], "No measure is chosen"),
        (["--resamples=1"], "resamples is 1: an interval needs at least 2"),
        (["--resamples=-1"], "resamples is -1: it must be a whole number from 0"),
        (["--shuffles=-1"], "shuffles is -1: it must be a whole number from 0"),
        (["--seed=-1"], "seed is -1: it must be a whole number from 0"),
        (["--layers=5"], r"There is no layer 5: .* has 0 \(the embeddings\) to 4"),
        (["--split=test"], "--split goes with --texts"),
    ],
)
def test_bad_input_is_one_sentence(base, pairs, args, message):
    with pytest.raises(UserError, match=message) as caught:
        run("similarity", [f"--base-model={base}", "--pairs", str(pairs), *args])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--texts=d"], "--texts needs --column"),
        (["--texts=d", "--column=c"], "--texts needs --column, the column of sentences, and --languages"),
        (["--texts=d", "--column=c", "--languages=fr", "--columns=a,b"], "--columns goes with --pairs"),
        (["--texts=no/such/data", "--column=c", "--languages=fr"], "There is no data folder 'no/such/data'"),
        ([], "one of the arguments --pairs --texts is required"),
    ],
)
def test_texts_that_cannot_be_read_are_one_sentence(base, args, message):
    with pytest.raises(UserError, match=message):
        run("similarity", [f"--base-model={base}", *args])
