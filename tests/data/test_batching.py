"""Batches: which rows, in which order, padded how."""

from collections import Counter

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch

from lnsub.data.batching import (
    IGNORED,
    BatchedRows,
    BatchRows,
    Collator,
    LengthGroupedBatches,
    pad,
    ragged,
)
from lnsub.tasks.wikiann import WikiANN
from lnsub.tasks.xnli import XNLI
from tests.support.tables import rows_of, some_lengths


def padded_share(lengths: np.ndarray, batches: list[list[int]]) -> float:
    computed = sum(max(lengths[rows]) * len(rows) for rows in batches)
    return 1 - sum(lengths[rows].sum() for rows in batches) / computed


def test_the_training_order_is_a_function_of_seed_and_epoch_alone():
    lengths = some_lengths(500)
    first, second = (LengthGroupedBatches(lengths, batch_size=8, seed=3) for _ in range(2))
    list(second)  # an earlier pass leaves no trace
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (to show that it does not matter)
    assert rows_of(first) == rows_of(second)
    second.set_epoch(1)
    assert rows_of(first) != rows_of(second)
    first.set_epoch(1)
    assert rows_of(first) == rows_of(second)
    assert rows_of(first) != rows_of(LengthGroupedBatches(lengths, batch_size=8, seed=4))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("limit", [{"batch_size": 8}, {"tokens_per_batch": 256}])
def test_an_epoch_has_every_row_once_over_all_processes_in_equally_many_steps(world, limit):
    # 1,202 rows: the last batch of three processes has 2 rows, so one is repeated there
    ranks = [LengthGroupedBatches(some_lengths(1202), num_replicas=world, rank=r, **limit) for r in range(world)]
    for epoch in (0, 5):
        for sampler in ranks:
            sampler.set_epoch(epoch)
        seen = Counter(row for sampler in ranks for rows in rows_of(sampler) for row in rows)
        assert set(seen) == set(range(1202))
        assert sum(seen.values()) - 1202 < world
        assert {len(rows_of(sampler)) for sampler in ranks} == {len(ranks[0])}


def test_rows_are_repeated_only_where_a_batch_has_fewer_than_there_are_processes():
    ranks = [LengthGroupedBatches(np.full(9, 5), batch_size=2, num_replicas=4, rank=r) for r in range(4)]
    sizes = [[len(rows) for rows in rows_of(sampler)] for sampler in ranks]
    assert all(sorted(size) == [1, 2] for size in sizes)
    assert sorted(Counter(row for s in ranks for rows in rows_of(s) for row in rows).values()) == [1] * 8 + [4]


def test_the_processes_of_one_step_have_rows_of_like_length():
    lengths = some_lengths(4000)
    ranks = [LengthGroupedBatches(lengths, batch_size=16, num_replicas=2, rank=r) for r in range(2)]
    means = np.array([[lengths[rows].mean() for rows in rows_of(sampler)] for sampler in ranks])
    assert np.abs(means[0] - means[1]).max() < 4
    assert means.std() > 10


def test_grouping_leaves_little_padding_and_random_batches_leave_much():
    lengths = some_lengths(15000)
    batches = rows_of(LengthGroupedBatches(lengths, batch_size=32))
    assert {len(rows) for rows in batches} == {32, 15000 % 32}
    order = np.random.default_rng(0).permutation(15000)
    assert padded_share(lengths, batches) < 0.05
    assert padded_share(lengths, np.array_split(order, 469)) > 0.4


def test_a_window_of_one_batch_leaves_batches_as_they_were_drawn():
    lengths = some_lengths(3200)
    sampler = LengthGroupedBatches(lengths, batch_size=32, window=1)
    drawn = np.random.default_rng([0, 0]).permutation(3200).reshape(100, 32)
    batches = rows_of(sampler)
    assert {frozenset(rows) for rows in batches} == {frozenset(rows) for rows in drawn.tolist()}
    assert all(sorted(lengths[rows], reverse=True) == lengths[rows].tolist() for rows in batches)


@pytest.mark.shared
@pytest.mark.parametrize(("task", "folder", "most"), [(XNLI, "xnli", 0.05), (WikiANN, "ner", 0.10)])
@pytest.mark.parametrize("language", ["fr", "zh"])
def test_real_rows_come_once_an_epoch_with_little_padding(shared, cache, task, folder, most, language):
    data = task(
        language=language,
        tokenizer=str(shared / "models" / "me5-small"),
        dataset=str(shared / "data" / folder),
        seed=57,
    )
    sampler = data.train_dataloader().sampler
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(rows_of(sampler))
        assert {len(rows) for rows in orders[-1]} <= {32, len(sampler.lengths) % 32}
        assert sorted(row for rows in orders[-1] for row in rows) == list(range(len(sampler.lengths)))
        assert padded_share(sampler.lengths, orders[-1]) <= most
    assert orders[0] != orders[1] != orders[2] != orders[0]
    other = LengthGroupedBatches(sampler.lengths, batch_size=32, seed=58)
    assert rows_of(other) != orders[0]


def test_batches_come_in_no_order_of_length_and_meet_other_rows_in_each_epoch():
    lengths = some_lengths(15000)
    sampler = LengthGroupedBatches(lengths, batch_size=32)
    longest = np.array([lengths[rows].max() for rows in rows_of(sampler)])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.15
    together = {frozenset(rows) for rows in rows_of(sampler)}
    sampler.set_epoch(1)
    assert not together & {frozenset(rows) for rows in rows_of(sampler)}


def test_a_token_budget_holds_in_every_batch_and_the_number_of_batches_is_that_of_every_epoch():
    lengths = np.append(some_lengths(3000), 500)
    sampler = LengthGroupedBatches(lengths, tokens_per_batch=400)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = rows_of(sampler)
        assert all(len(rows) * lengths[rows].max() <= 400 or len(rows) == 1 for rows in batches)
        assert len(batches) == len(sampler)
    assert padded_share(lengths, batches) < 0.06


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_evaluation_has_every_row_exactly_once_in_equally_many_batches(world):
    lengths = some_lengths(501)
    ranks = [
        LengthGroupedBatches(lengths, tokens_per_batch=2000, shuffle=False, num_replicas=world, rank=r)
        for r in range(world)
    ]
    dealt = [rows_of(sampler) for sampler in ranks]
    assert sorted(row for batches in dealt for rows in batches for row in rows) == list(range(501))
    assert {len(batches) for batches in dealt} == {len(ranks[0])}
    assert all(len(rows) * lengths[rows].max() <= 2000 for batches in dealt for rows in batches)
    assert padded_share(lengths, [rows for batches in dealt for rows in batches]) < 0.1


def test_evaluation_of_fewer_rows_than_processes_repeats_none():
    ranks = [
        LengthGroupedBatches(np.array([5, 9]), tokens_per_batch=100, shuffle=False, num_replicas=3, rank=r)
        for r in range(3)
    ]
    assert [rows_of(sampler) for sampler in ranks] == [[[1]], [[0]], []]


def test_no_rows_and_no_or_two_limits_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        LengthGroupedBatches(np.array([], dtype=int), batch_size=2)
    for limits in ({}, {"batch_size": 2, "tokens_per_batch": 10}):
        with pytest.raises(ValueError, match="one of batch_size and tokens_per_batch"):
            LengthGroupedBatches(np.array([3]), **limits)


def test_first_batch_skips_in_the_current_epoch_only():
    sampler = LengthGroupedBatches(some_lengths(100), batch_size=8)
    sampler.set_epoch(2)
    whole = rows_of(sampler)
    sampler.first_batch = 5
    sampler.set_epoch(2)
    assert rows_of(sampler) == whole[5:]
    assert len(sampler) == len(whole)
    sampler.set_epoch(3)
    assert len(rows_of(sampler)) == len(whole)


def test_padding_puts_each_row_at_the_left():
    rows = [[1, 2, 3], [4], [5, 6]]
    values, lengths = np.concatenate(rows), np.array([3, 1, 2])
    assert pad(values, lengths, 9).tolist() == [[1, 2, 3], [4, 9, 9], [5, 6, 9]]
    assert pad(values, lengths, 9, multiple=4).tolist() == [[1, 2, 3, 9], [4, 9, 9, 9], [5, 6, 9, 9]]
    assert pad(values, lengths, 9, multiple=3).shape == (3, 3)


@pytest.mark.parametrize(("widest", "width"), [(None, 16), (20, 16), (12, 12), (8, 10)])
def test_rounding_ends_at_the_widest_and_cuts_no_row(widest, width):
    assert pad(np.ones(10), np.array([10]), 0, multiple=16, widest=widest).shape == (1, width)


def test_a_ragged_column_is_read_over_chunks_and_slices():
    lists = pa.array([[1, 2], [3], [], [4, 5, 6], [7]], pa.list_(pa.int32()))
    column = pa.chunked_array([lists.slice(1, 2), lists.slice(3, 1)])
    values, lengths = ragged(column)
    assert values.tolist() == [3, 4, 5, 6]
    assert lengths.tolist() == [1, 0, 3]


@pytest.mark.parametrize("lists", [True, False])
def test_a_batch_holds_its_rows_in_the_order_asked_for(lists):
    columns = {
        "input_ids": [[7, 8], [1, 2, 3], [5]],
        "token_type_ids": [[0, 1], [0, 0, 1], [0]],
        "labels": [[4, 4], [6, 6, 6], [2]] if lists else [4, 6, 2],
        "index": [10, 11, 12],
    }
    rows = BatchedRows(datasets.Dataset.from_dict(columns), Collator(pad_id=99, multiple=2))
    batch = rows[BatchRows(0, np.array([2, 0]))]
    assert batch["input_ids"].tolist() == [[5, 99], [7, 8]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0], [0, 1]]
    assert batch["labels"].tolist() == ([[2, IGNORED], [4, 4]] if lists else [2, 4])
    assert batch["index"].tolist() == [12, 10]
