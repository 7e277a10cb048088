"""The benchmarks run: each in its quick mode, which asserts inside that the alternatives give the same. No times."""

import importlib
import json
import re
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.__main__ import main
from benchmarks.harness import Case, Row, Timing, at_least, at_most, in_own_process, interleave, memory_of
from benchmarks.registry import BENCHMARKS
from benchmarks.tables import markdown, write_into

ROWS = ["case", "timing", "reference", "ratio", "values", "claims"]
SLOW = ("compiling", "gpu")
COUNTED = ("gpu_steps", "gpu_pieces", "gpu_loading")  # of benchmarks.gpu_counts, which make gpu-counts runs


@pytest.fixture
def in_this_process(monkeypatch):
    """What a benchmark does in processes of its own is done here: each would import torch, for seconds."""
    for module in (harness, *(importlib.import_module(benchmark.module) for benchmark in BENCHMARKS.values())):
        if hasattr(module, "in_own_process"):
            monkeypatch.setattr(module, "in_own_process", lambda function, *args: function(*args))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in BENCHMARKS])
def test_a_benchmark_runs_and_its_rows_are_plain_json(name, in_this_process):
    rows = BENCHMARKS[name].load()(True, 1)
    assert rows
    for row in rows:
        assert list(row.to_json()) == ROWS
        json.dumps(row.to_json())
        assert (row.ratio is None) == (row.reference == "")
        assert row.timing is not None or row.values


def test_alternatives_take_turns():
    order = []
    cases = [
        Case("a", lambda: order.append("a"), before=lambda: order.append("before a")),
        Case("b", lambda: order.append("b"), turns=2, warm=False),
    ]
    timings = interleave(cases, 3)
    turn = ["before a", "a", "b"]
    assert order == ["before a", "a", *turn, *turn, "before a", "a"]
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"a": 3, "b": 2}


def test_a_ratio_is_the_median_over_turns_and_not_of_medians():
    ours, reference = Timing((1.0, 20.0, 3.0)), Timing((2.0, 10.0, 1.0))
    assert (ours.median, ours.lowest, ours.highest) == (3.0, 1.0, 20.0)
    assert ours.ratio(reference) == 2.0  # of 0.5, 2 and 3; the medians' would be 1.5
    assert ours.ratio(Timing((4.0,))) == 0.25


def test_claims_say_their_limit_and_hold_at_it():
    assert at_most(64, 64, "MB").met
    assert not at_most(64.1, 64, "MB").met
    assert at_least(50, 50, "x").met
    assert not at_least(49, 50, "x").met
    assert at_most(1, 0.3, "s").text == "at most 0.3 s"


def _prepare(megabytes: int):
    held = bytes(10_000_000)

    def work():
        passing = bytearray(megabytes * 1_000_000)
        passing[::4096] = b"x" * len(passing[::4096])
        return len(held)

    return work


def test_memory_is_that_of_the_work_at_its_peak_and_not_of_its_preparation():
    small, large = (memory_of(_prepare, megabytes).extra / 1e6 for megabytes in (0, 60))
    assert small < 10
    assert 55 < large < 75


def test_a_failure_in_another_process_is_raised_here():
    with pytest.raises(ZeroDivisionError):
        in_own_process(divmod, 1, 0)


def test_the_tables_go_between_their_markers_and_nothing_else_changes(tmp_path):
    row = Row("a|b", Timing((0.5, 1.5)), "other", 0.02, {"MB": 3.0}, [at_most(2, 1, "s")]).to_json()
    machine = {"cpu": "C", "cores": 2, "threads": 2, "memory_gb": 8.0, "gpu": None, "load": [0.1, 0, 0]}
    machine |= {"versions": {"python": "3"}, "time": "2026-01-02T03:04:05+00:00"}
    result = {"quick": False, "repeats": 2, "seconds": 1, "machine": machine, "rows": [row]}
    (tmp_path / "run.json").write_text(json.dumps({"one": result}))
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table one -->\nold\n<!-- end one -->\nafter\n<!-- table two -->\n<!-- end two -->\n")
    for _ in range(2):  # writing again changes nothing
        assert write_into(page, [tmp_path / "run.json"]) == ["one"]
        before, table = page.read_text().split("<!-- table one -->")
        table, after = table.split("<!-- end one -->")
        assert before == "before\n"
        assert after == "\nafter\n<!-- table two -->\n<!-- end two -->\n"
        assert "| a\\|b | 1 s | 500 ms to 1.5 s | 1/50 other | 3 MB | at most 1 s: NOT MET |" in table
        assert "2 turns. C, 2 cores, torch on 2 threads; 8 GB of memory; python 3; load 0.1" in table
        assert "old" not in table
    page.write_text("nothing here\n")
    with pytest.raises(LookupError, match="no place for one"):
        write_into(page, [tmp_path / "run.json"])


def test_a_table_has_no_empty_columns_and_tells_how_often_slow_cases_were_timed():
    machine = {"cpu": "C", "cores": 2, "threads": 2, "memory_gb": 8.0, "gpu": None, "load": [0.1, 0, 0]}
    machine |= {"versions": {"python": "3"}, "time": "2026-01-02T03:04:05+00:00"}
    result = {"quick": False, "repeats": 5, "seconds": 1, "machine": machine}
    counted = markdown(result | {"rows": [Row("a", values={"MB": 3}).to_json()]})
    assert counted.startswith("| case | also measured |\n| --- | --- |\n| a | 3 MB |\n\nC, 2 cores")
    timed = [Row("a", Timing((1.0, 2.0, 3.0))).to_json(), Row("slow", Timing((9.0,))).to_json()]
    table = markdown(result | {"rows": timed})
    assert table.startswith("| case | median | min to max |\n| --- | --: | --: |\n| a | 2 s | 1 s to 3 s |\n")
    assert "\n\n1 to 3 turns. C, 2 cores" in table


def test_a_table_may_have_a_column_for_each_value():
    machine = {"cpu": "C", "cores": 2, "threads": 2, "memory_gb": 8.0, "gpu": None, "load": [0.1, 0, 0]}
    machine |= {"versions": {"python": "3"}, "time": "2026-01-02T03:04:05+00:00"}
    rows = [Row("a", values={"kernels": 1000, "ms": 0.25}).to_json(), Row("b", values={"kernels": 2}).to_json()]
    table = markdown({"quick": False, "columns": True, "machine": machine, "rows": rows})
    assert table.startswith("| case | kernels | ms |\n| --- | --: | --: |\n| a | 1,000 | 0.25 |\n| b | 2 |  |\n\nC, 2")


def test_every_benchmark_has_its_place_on_a_page():
    docs = Path(__file__).parents[2] / "docs"
    text = "".join((docs / name).read_text(encoding="utf-8") for name in ("performance.md", "statistics.md"))
    assert set(re.findall(r"<!-- table (\w+) -->\n.*?<!-- end \1 -->", text, re.DOTALL)) == {*BENCHMARKS, *COUNTED}


def test_the_list_names_every_benchmark(capsys):
    assert main(["--list"]) == 0
    assert set(BENCHMARKS) <= set(capsys.readouterr().out.split())


def test_an_unknown_benchmark_is_refused_with_the_names_of_all(capsys):
    with pytest.raises(SystemExit):
        main(["selektion"])
    assert "choose from" in capsys.readouterr().err
