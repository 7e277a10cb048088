"""Retrieval by layer, dense and under tickets; the command, its errors and its records."""

import csv
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertForMaskedLM

from lnsub.analysis.parallel import states
from lnsub.analysis.parallel.embedding import SentenceEncoder
from lnsub.analysis.parallel.sentence_pairs import Pairs
from lnsub.analysis.parallel.sources import read_pairs
from lnsub.analysis.retrieval.margin import accuracy, translation_ranks
from lnsub.analysis.retrieval.measure import Retrieval, Settings
from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.models.inherited import Theta0, inherited_masks
from lnsub.runs.records import read
from lnsub.tickets.ticket import Ticket
from tests.support.sentence_models import WORDS, make_base, ticket_of

N = 40


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of "copy" every sentence is its own translation; "rest" has other sentences at random."""
    folder = tmp_path_factory.mktemp("pairs")
    generator = torch.Generator().manual_seed(0)
    sentences = [
        " ".join(WORDS[i] for i in torch.randint(0, len(WORDS), (3 + n % 7,), generator=generator))
        for n in range(2 * N)
    ]
    for name, other in (("copy", sentences[:N]), ("rest", sentences[N:])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("en", "other"), *zip(sentences[:N], other, strict=True), ("blank", " ")])
    return folder


@pytest.fixture(scope="module")
def tickets(base: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tickets")
    full = ticket_of(base, lambda w: torch.ones_like(w, dtype=torch.bool), language="fr", sparsity=0.0, round=0)
    half = ticket_of(base, lambda w: w > 0, language="ur", sparsity=0.5)
    return {"full": full.save(folder / "full.safetensors"), "half": half.save(folder / "half.safetensors")}


def retrieve(capsys: pytest.CaptureFixture, *args: object) -> list[dict]:
    assert run("retrieve", ["--device", "cpu", "--format", "json", *map(str, args)]) == 0
    return json.loads(capsys.readouterr().out)


def test_copies_are_all_found_and_unrelated_sentences_by_chance(capsys, base, pairs):
    rows = retrieve(capsys, "--base-model", base, "--pairs", pairs)
    assert [(row["target"], row["layer"]) for row in rows] == [(t, n) for t in ("copy", "rest") for n in (0, 1, 2)]
    for row in rows:
        assert (row["ticket"], row["source"], row["pairs"], row["empty"]) == ("dense", None, N, 1)
        assert row["chance"] == 1 / N
        assert row["accuracy"] == (row["from_pivot"] + row["to_pivot"]) / 2
        # 5 of 40 or more by chance alone: once in 300 cases, and the seed is fixed.
        assert row["accuracy"] == 1.0 if row["target"] == "copy" else row["accuracy"] < 5 / N


def test_a_ticket_that_keeps_everything_gives_the_dense_rows_and_another_gives_its_own(base, pairs, tickets):
    """And its own are those of its embeddings."""
    found = [Ticket.load(path) for path in tickets.values()]
    noisy = read_pairs(pairs / "rest.csv")
    half = [" ".join(a.split()[:4] + b.split()[:3]) for a, b in zip(noisy.first, noisy.second, strict=True)]
    close = Pairs("close", noisy.first, tuple(half))
    measuring = Retrieval(base, [close], found, Settings(margin="distance", neighbours=3), "cpu")
    dense, full, pruned = (measuring.measure(cell) for cell in measuring.cells)
    assert full.layers == dense.layers
    assert pruned.layers[0] == dense.layers[0]  # the embeddings
    assert pruned.layers != dense.layers
    encoder = SentenceEncoder(base, "cpu")
    encoder.apply_ticket(found[1])
    x, y = (encoder.embed(encoder.tokenise(text), (2,))[0] for text in (close.first, close.second))
    found_ranks = translation_ranks(x, y, margin="distance", k=3)
    assert pruned.layers[2].from_pivot == accuracy(found_ranks.forward)
    assert pruned.layers[2].to_pivot == accuracy(found_ranks.backward)
    assert measuring.measure(measuring.cells[0]).layers == dense.layers  # back to dense


def test_layers_measured_in_parts_for_want_of_memory_give_the_same(base, pairs, monkeypatch):
    measuring = Retrieval(base, [read_pairs(pairs / "rest.csv")], device="cpu")
    (cell,) = measuring.cells
    at_once = measuring.measure(cell).layers
    monkeypatch.setattr(states, "MEMORY", 1)
    assert measuring.measure(cell).layers == at_once


def test_first_token_states_of_the_embedding_layer_say_nothing(capsys, base, pairs):
    rows = retrieve(
        capsys, "--base-model", base, "--pairs", pairs / "copy.csv", "--pooling", "first", "--layers", "2,0"
    )
    assert [row["layer"] for row in rows] == [2, 0]
    assert rows[0]["accuracy"] == 1.0
    assert rows[1]["accuracy"] == 1 / N


def test_tickets_and_languages_make_the_cells_and_progress_tells_each(capsys, base, pairs, tickets):
    args = ["--base-model", base, "--pairs", pairs, "--tickets", *tickets.values(), "--layers", "1", "--margin"]
    assert run("retrieve", [*map(str, args), "absolute", "--languages", "rest,copy", "--format", "csv"]) == 0
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(out.splitlines()))
    labels = ["dense", "xnli/fr/seed0/s0.00", "xnli/ur/seed0/s0.50"]
    assert [(row["ticket"], row["target"]) for row in rows] == [(a, b) for a in labels for b in ("rest", "copy")]
    assert [row["matrices"] for row in rows] == ["", "", "13", "13", "13", "13"]
    assert {row["neighbours"] for row in rows} == {""}
    lines = err.splitlines()
    assert len(lines) == 6
    assert lines[2].startswith("3/6 xnli/fr/seed0/s0.00 on rest: best layer 1, accuracy ")


def test_the_table_shows_the_numbers_and_what_was_left_out(base, pairs, tickets, tmp_path):
    args = ["--base-model", base, "--pairs", pairs / "copy.csv", "--tickets", tickets["half"], "--layers", "0"]
    assert run("retrieve", [*map(str, args), "--output", str(tmp_path / "new" / "table.txt")]) == 0
    lines = (tmp_path / "new" / "table.txt").read_text().splitlines()
    assert lines[0] == "retrieval, mean/ratio-4"
    assert "chance" in lines[2]
    assert lines[4].split() == ["dense", "en", "copy", "0", "1", "1.0000", "1.0000", "1.0000", "0.0250", "40"]
    assert lines[-2] == "copy: left out 1 pairs with a blank sentence and 0 that repeat one."
    assert lines[-1] == "xnli/ur/seed0/s0.50: applied to 13 matrices."


def test_records_hold_every_number_once_however_often_it_is_measured(capsys, base, pairs, tickets, tmp_path):
    args = ["--base-model", base, "--pairs", pairs, "--tickets", tickets["half"], "--record", tmp_path]
    rows = retrieve(capsys, *args)
    records = read(tmp_path / "results.jsonl")
    assert len(records) == 3 * len(rows)
    for row in rows:
        for direction in ("accuracy", "from_pivot", "to_pivot"):
            (found,) = (
                r
                for r in records
                if (r.source, r.target, r.layer) == (row["source"], row["target"], row["layer"])
                and r.metric == f"{direction}/mean/ratio-4"
            )
            assert (found.kind, found.task, found.model) == ("retrieval", "retrieval", base)
            assert (found.value, found.n, found.sparsity) == (row[direction], N, row["sparsity"])
            assert found.ticket == (None if row["source"] is None else Ticket.load(tickets["half"]).checksum)
    retrieve(capsys, *args)
    assert read(tmp_path / "results.jsonl") == records
    retrieve(capsys, *args, "--k", 2)
    assert len(read(tmp_path / "results.jsonl")) == 2 * len(records)


def test_the_first_so_many_count_each_in_rows_and_records_of_their_own(capsys, base, pairs, tmp_path):
    """The more count, the more are found; the first alone keeps its name."""
    args = ["--base-model", base, "--pairs", pairs / "rest.csv", "--record", tmp_path, "--neighbours", 5]
    rows = retrieve(capsys, *args, "--top", "1,5,20")
    assert [(row["layer"], row["top"]) for row in rows] == [(n, k) for n in (0, 1, 2) for k in (1, 5, 20)]
    assert [row["chance"] for row in rows[:3]] == [1 / N, 5 / N, 20 / N]
    for one, five, twenty in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert one["accuracy"] <= five["accuracy"] < twenty["accuracy"]
    assert retrieve(capsys, *args, "--layers", "1") == [rows[3]]
    values = {(r.layer, r.metric): r.value for r in read(tmp_path / "results.jsonl")}
    assert len(values) == len(read(tmp_path / "results.jsonl")) == 3 * len(rows)
    for row in rows:
        at = "" if row["top"] == 1 else f"@{row['top']}"
        for name in ("accuracy", "from_pivot", "to_pivot"):
            assert values[row["layer"], f"{name}{at}/mean/ratio-5"] == row[name]


def test_own_tickets_and_other_pivots_are_recorded(capsys, base, pairs, tickets, tmp_path):
    with (pairs / "rest.csv").open(newline="") as file:
        lines = list(csv.reader(file))[1:]
    with (tmp_path / "fr-ur.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("fr", "ur"), *lines])
    found = {name: Ticket.load(path) for name, path in tickets.items()}
    changes = {"language": "fr", "sparsity": 0.5}
    mate = ticket_of(base, lambda w: w < 0, **changes)
    path = mate.save(tmp_path / "mate.safetensors")
    args = ["--base-model", base, "--pairs", tmp_path / "fr-ur.csv", "--record", tmp_path / "out", "--own-tickets"]
    rows = retrieve(capsys, *args, "--tickets", path, tickets["half"])
    assert [(r["ticket"], r["source"], r["pivot"], r["target"]) for r in rows[::3]] == [
        ("dense", None, "fr", "ur"),
        ("xnli/own/seed0/s0.50", "ur", "fr", "ur"),
    ]
    records = read(tmp_path / "out" / "results.jsonl")
    assert {(r.ticket, r.pivot_ticket, r.pivot) for r in records} == {
        (None, None, "fr"),
        (found["half"].checksum, mate.checksum, "fr"),
    }


def test_tickets_without_the_dense_model_have_the_rows_that_they_have_beside_it(capsys, base, pairs, tickets):
    args = ["--base-model", base, "--pairs", pairs / "rest.csv", "--tickets", tickets["half"]]
    beside, alone = retrieve(capsys, *args), retrieve(capsys, *args, "--without-dense")
    assert alone == [row for row in beside if row["ticket"] != "dense"]
    assert 0 < len(alone) < len(beside)


def test_inherited_masks_are_those_that_overlap_makes(capsys, base, pairs, tickets, tmp_path):
    args = ["--base-model", base, "--pairs", pairs / "rest.csv", "--record", tmp_path / "made"]
    beside = retrieve(capsys, *args, "--tickets", tickets["half"], "--inherited")
    alone = retrieve(capsys, *args, "--tickets", tickets["half"], "--inherited", "--without-dense", "--without-tickets")
    assert [row["ticket"] for row in beside[::3]][:1] == ["dense"]
    assert alone == [row for row in beside if row["source"] == "inherited"]
    (mask,) = inherited_masks(Theta0.load(str(base)), [Ticket.load(tickets["half"])])
    by_hand = ["--base-model", base, "--pairs", pairs / "rest.csv", "--without-dense"]
    assert alone == retrieve(capsys, *by_hand, "--tickets", mask.save(tmp_path / "mask.safetensors"))
    found = {(r.ticket, r.source_task) for r in read(tmp_path / "made" / "results.jsonl")}
    assert found == {(None, None), (Ticket.load(tickets["half"]).checksum, None), (mask.checksum, "inherited")}


def test_fetching_only_counts_the_sentences_and_needs_no_model(capsys, pairs, tmp_path):
    rows = retrieve(capsys, "--base-model", tmp_path / "none", "--pairs", pairs, "--fetch-only")
    assert [(row["pivot"], row["target"], row["fetched_pairs"]) for row in rows] == [
        ("en", "copy", N),
        ("en", "rest", N),
    ]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--without-dense"], "--without-dense needs --tickets"),
        (["--inherited"], "--inherited measures the inherited masks of tickets: name them"),
        (["--without-tickets"], "--without-tickets goes with --inherited"),
        (["--layers", "0,3"], r"There is no layer 3: .* has 0 \(the embeddings\) to 2"),
        (["--layers=-1"], "There is no layer -1"),
        (["--layers", "last"], "--layers .*'last'"),
        (["--layers", ","], "No layer is chosen"),
        (["--k", "40"], "neighbours is 40, but 'copy' has 40 sentence pairs"),
        (["--k", "0"], "neighbours is 0: it must be a whole number from 1"),
        (["--max-pairs", "4"], "neighbours is 4, but 'copy' has 4 sentence pairs"),
        (["--max-pairs", "1"], "max_pairs is 1"),
        (["--top", "0"], "top is 0: it must be a whole number from 1"),
        (["--top", "1,40"], "top is 40, but 'copy' has 40 sentence pairs"),
        (["--top", ","], "No number is named"),
        (["--columns", "en"], "--columns takes two names"),
        (["--column", "en"], "--column goes with --texts"),
        (["--own-tickets"], "No ticket is named: --own-tickets needs"),
        (["--texts", "x"], "argument --texts: not allowed with argument --pairs"),
        (["--batch-tokens", "0"], "batch_tokens is 0"),
        (["--languages", "copy,xx"], "no sentence pairs for 'xx': there are for copy, rest"),
        (["--margin", "cosine"], "invalid choice: 'cosine'"),
        (["--tickets", "none.safetensors"], r"there is no ticket none\.safetensors"),
    ],
)
def test_bad_input_is_one_sentence(base, pairs, args, message):
    with pytest.raises(UserError, match=message):
        run("retrieve", ["--base-model", base, "--pairs", str(pairs), *args])


def test_a_ticket_of_another_base_is_refused_before_anything_is_measured(pairs, tickets, tmp_path):
    other = make_base(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"half\.safetensors was found in tiny-bert .* but the base model here is"):
        run(
            "retrieve",
            ["--base-model", other, "--pairs", str(pairs), "--tickets", str(tickets["half"])],
        )


def test_a_model_whose_states_overflow_is_refused(base, pairs, tmp_path):
    broken = BertForMaskedLM.from_pretrained(base)
    broken.bert.encoder.layer[0].output.dense.weight.data.fill_(3e38)
    broken.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path)
    measuring = Retrieval(str(tmp_path), [read_pairs(pairs / "copy.csv")], device="cpu")
    with pytest.raises(UserError, match=r"The states of layer 1 of .* \(dense\) are not finite"):
        measuring.measure(measuring.cells[0])


@pytest.mark.shared
def test_a_pretrained_model_finds_real_translations_far_above_chance(capsys, shared):
    rows = retrieve(
        capsys,
        *("--base-model", shared / "models" / "me5-tiny", "--pairs", shared / "data" / "tatoeba"),
        *("--languages", "fr", "--max-pairs", 100),
    )
    assert [row["layer"] for row in rows] == [0, 1, 2, 3]
    assert all(row["pairs"] == 100 for row in rows)
    assert rows[3]["accuracy"] > 0.4 > 10 * rows[3]["chance"]
    assert rows[3]["accuracy"] > rows[0]["accuracy"]
