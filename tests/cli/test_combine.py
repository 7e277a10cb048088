from pathlib import Path

import pytest

from lnsub.cli.combine import HOW as OFFERED
from lnsub.cli.commands import run
from lnsub.common.errors import UserError
from lnsub.tickets.combining import HOW, combine
from lnsub.tickets.ticket import Ticket
from tests.support.ticket_factory import SHAPES, kept_set, random_masks, ticket


def test_every_way_to_combine_is_offered() -> None:
    assert list(OFFERED) == list(HOW)


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
