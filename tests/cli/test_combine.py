from pathlib import Path

import pytest

from lnsub.cli.combine import HOW as OFFERED
from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.tickets.combining import HOW, combine
from lnsub.tickets.departing import part_of_departures
from lnsub.tickets.ticket import Ticket
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, ticket


def test_every_way_to_combine_is_offered() -> None:
    assert list(OFFERED) == [*HOW, "departures"]


@pytest.mark.parametrize("how", list(HOW))
def test_the_file_is_the_combined_ticket(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        ticket(random_masks(0.5, i), language=code).save(tmp_path / code) for i, code in enumerate(("fr", "ur", "zh"))
    ]
    output = tmp_path / "made" / "core.safetensors"
    assert run("combine", [how, *map(str, paths), "--output", str(output)]) == 0
    made, expected = Ticket.load(output), combine([Ticket.load(path) for path in paths], how)
    assert made.checksum == expected.checksum
    assert made.provenance.language == "fr+ur+zh"
    said = capsys.readouterr().out
    for fact in (output, how, "3 tickets", f"{made.sparsity:.4f}", f"{made.kept} of 343 weights"):
        assert str(fact) in said
    assert said.count("\n") == 1


def test_the_intersection_keeps_what_all_keep_of_what_all_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pooler = "pooler.dense.weight"
    masks = [random_masks(0.5, 0), random_masks(0.5, 1, {n: s for n, s in SHAPES.items() if n != pooler})]
    paths = [ticket(m).save(tmp_path / str(i)) for i, m in enumerate(masks)]
    run("combine", ["intersection", *map(str, paths), "--output", str(tmp_path / "core")])
    assert Ticket.load(tmp_path / "core").kept == len(kept_set(masks[0]) & kept_set(masks[1]))
    assert pooler in capsys.readouterr().out


def test_a_source_is_never_overwritten(tmp_path: Path) -> None:
    paths = [ticket(random_masks(0.5, i)).save(tmp_path / str(i)) for i in range(2)]
    before = paths[1].read_bytes()
    with pytest.raises(UserError, match=f"--output .*{paths[1].name}"):
        run("combine", ["union", *map(str, paths), "--output", f"{tmp_path}/../{tmp_path.name}/1"])
    assert paths[1].read_bytes() == before


def test_what_cannot_be_combined_is_refused(tmp_path: Path) -> None:
    path = str(ticket(random_masks(0.5, 0)).save(tmp_path / "a"))
    with pytest.raises(UserError, match="at least two"):
        run("combine", ["union", path, "--output", str(tmp_path / "b")])
    with pytest.raises(UserError, match="xor"):
        run("combine", ["xor", path, path, "--output", str(tmp_path / "b")])
    with pytest.raises(UserError, match="--output"):
        run("combine", ["union", path, path])
    assert not (tmp_path / "b").exists()


def test_departures_are_written_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(ticket(random_masks(0.5, i), language=code).save(tmp_path / code)) for i, code in enumerate("abc")]
    output = tmp_path / "made.safetensors"
    three = [Ticket.load(path) for path in files]
    for part in ("shared", "own", "foreign"):
        args = [*files[:2], "--inherited", files[2], "--part", part, "--seed=3", "--output", str(output), "--force"]
        assert run("combine", ["departures", *args]) == 0
        expected = part_of_departures(*three, part, seed=3)
        assert Ticket.load(output).checksum == expected.ticket.checksum
        assert f"{part} departures" in (said := capsys.readouterr().out)
        assert f"{expected.drawn} of {expected.of[0]} weights kept though small" in said


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["departures", "a", "b", "--part=own"], "need --inherited MASK"),
        (["departures", "a", "b", "--inherited=c"], r"need --part shared\|own\|foreign"),
        (["departures", "a", "--inherited=c", "--part=own"], "OWN and FOREIGN, and one inherited mask: got 2"),
        (["departures", "a", "b", "--inherited=c", "--part=own", "--seed=-1"], "--seed takes a whole number"),
        (["departures", "a", "b", "--inherited=c", "--part=both"], "both"),
        (["union", "a", "b", "--part=own"], "--part goes with `lnsub combine departures`, not with union"),
        (["union", "a", "b", "--inherited=c"], "--inherited goes with"),
        (["departures", "a", "b", "--inherited=out", "--part=own"], "--output out is one of the tickets"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    args: list[str], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, code in enumerate("abc"):
        ticket(random_masks(0.5, i), language=code).save(tmp_path / code)
    with pytest.raises(UserError, match=word):
        run("combine", [*args, "--output=out"])
    assert not (tmp_path / "out").exists()
