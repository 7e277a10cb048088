"""A ticket's header, changed by one bit at every place: found, or harmless."""

from pathlib import Path

import pytest

from lnsub.cli.main import main
from lnsub.common.errors import UserError
from lnsub.tickets.finding import FoundTicket
from lnsub.tickets.info import verify
from lnsub.tickets.inherited import served_by
from lnsub.tickets.ticket import Ticket
from tests.attacks.bits import of_ticket_header
from tests.support.ticket_factory import random_ticket

SHAPES = {"encoder.layer.0.output.dense.weight": (3, 5), "pooler.dense.weight": (8, 8)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return random_ticket(0.5, 1, SHAPES).save(tmp_path / "s0.50.safetensors")


def test_every_changed_bit_of_a_header_is_found_or_harmless(saved: Path) -> None:
    whole = saved.read_bytes()
    tally = of_ticket_header(saved)
    assert saved.read_bytes() == whole
    assert tally.found > 5000
    assert tally.harmless < 0.05 * tally.found


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"language":"fr"', b'"language":"de"'),
        (b'"sparsity":"0.5"', b'"sparsity":"0.6"'),
        (b'"seed":"0"', b'"seed":"1"'),
        (b'"task":"xnli"', b'"task":"xmlm"'),
        (b"abab", b"cdab"),
        (b'"score":"magnitude"', b'"scorn":"magnitude"'),
    ],
)
def test_a_changed_origin_is_found_by_the_header_alone(saved: Path, before: bytes, after: bytes) -> None:
    content = saved.read_bytes()
    assert before in content
    saved.write_bytes(content.replace(before, after, 1))
    for read in (FoundTicket.read, Ticket.load):
        with pytest.raises(UserError, match=saved.name):
            read(saved)
    assert main(["ticket", "verify", str(saved)]) == 2


def test_a_ticket_of_an_earlier_version_is_whole_with_a_remark(saved: Path) -> None:
    without_cover(saved)
    assert Ticket.load(saved).provenance.language == "fr"
    lines, good = verify([saved])
    assert good
    assert lines[0].startswith(f"ok {saved} (")


def without_cover(path: Path, **changes: str) -> None:
    """Writes a ticket again without the checksum over its metadata, as earlier versions did."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() | changes
    del metadata["metadata_checksum"]
    save_file(load_file(path), path, metadata)


@pytest.mark.parametrize(
    "changes",
    [
        {"shapes": '{"a":' * 100_000},
        {"shapes": "[" * 100_000 + "]" * 100_000},
        {"shapes": '{"pooler.dense.weight": [' + "9" * 5000 + "]}"},
        {"shapes": '{"pooler.dense.weight": [' + "9" * 4000 + "]}"},
        {"shapes": '{"pooler.dense.weight": [true, 64]}'},
        {"shapes": '{"pooler.dense.weight": [' + ",".join("1" * 50_000) + "]}"},
        {"shapes": "NaN"},
        {"shapes": "null"},
        {"seed": "9" * 5000},
        {"seed": "9" * 4000},
        {"sparsity": "inf"},
        {"language": "../../x"},
        {"language": "en+../x"},
        {"language": ""},
        {"task": "/etc"},
    ],
    ids=lambda changes: ", ".join(f"{key}={value[:30]}" for key, value in changes.items()),
)
def test_one_absurd_ticket_does_not_keep_others_from_being_verified(
    changes: dict[str, str], saved: Path, tmp_path: Path
) -> None:
    others = [random_ticket(0.5, number, SHAPES).save(tmp_path / f"{number}.safetensors") for number in range(2)]
    without_cover(saved, **changes)
    lines, good = verify([others[0], saved, others[1]])
    assert not good
    assert (lines[0], lines[2]) == (f"ok {others[0]}", f"ok {others[1]}")
    assert str(saved) in lines[1]
    assert len(lines[1]) < 600


@pytest.mark.parametrize("sources", ["[" * 100_000, "{}", "[1]", "7", '{"left_out": 7}', '{"left_out": NaN}', "{"])
def test_absurd_sources_of_an_inherited_mask_are_a_sentence(sources: str) -> None:
    mask = random_ticket(0.5, 1, SHAPES, sources=sources)
    with pytest.raises(UserError, match=mask.where):
        served_by(mask)
