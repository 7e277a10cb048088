import csv
import io
import json
from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.common.tables import to_csv, to_json, to_table
from lnsub.tickets.info import info_text, print_tickets, ticket_info, verify
from tests.support.ticket_factory import random_masks, random_ticket, ticket
from tests.support.units import masks_of, neurons, random_kept

ROWS = [{"a": "x", "n": 1234567, "share": 0.123456789, "none": None}, {"a": "y,[b]z", "share": 1.0, "late": True}]


def test_a_ticket_says_what_it_is(tmp_path: Path) -> None:
    masks = random_masks(0.4, 1)
    path = ticket(masks, metric="accuracy=0.71").save(tmp_path / "t")
    (record,) = ticket_info([path])
    kept, total = sum(int(m.sum()) for m in masks.values()), sum(m.size for m in masks.values())
    assert (record["kept"], record["total"], record["matrices"]) == (kept, total, 6)
    query = next(d for d in record["densities"] if (d["layer"], d["kind"]) == ("1", "query"))
    assert query["density"] == masks["encoder.layer.1.attention.self.query.weight"].mean()
    assert sum(d["kept"] for d in record["densities"]) == kept
    text = info_text([record])
    for said in (
        "xnli, language fr, seed 0, round 5",
        f"{kept} kept of {total}",
        "tiny-bert (fingerprint abababababab)",
    ):
        assert said in text
    for said in (
        "0.5 requested",
        "score magnitude, scope global, schedule linear",
        "accuracy=0.71",
        "2026-01-02",
        "lnsub",
    ):
        assert said in text
    assert record["checksum"] in text
    assert "density by layer and kind" in text
    assert f"{query['density']:.4f}" in text


def test_several_tickets_are_shown_without_their_densities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [random_ticket(0.5, i, language=code).save(tmp_path / code) for i, code in enumerate(("fr", "de"))]
    print_tickets(paths)
    text = capsys.readouterr().out
    assert text.count("found on") == 2
    assert "density by" not in text


def test_info_of_a_bad_ticket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no ticket"):
        ticket_info([tmp_path / "nowhere"])


def test_verify_says_of_each_file_whether_it_is_whole(tmp_path: Path) -> None:
    good, bad = (random_ticket(0.5, i).save(tmp_path / name) for i, name in enumerate(("good", "bad")))
    assert verify([good, bad]) == ([f"ok {good}", f"ok {bad}"], True)
    data = bytearray(bad.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    lines, ok = verify([bad, good])
    assert not ok
    assert lines[0].startswith(f"ticket {bad} has been changed or damaged")
    assert lines[1] == f"ok {good}"


def test_csv_and_json_keep_every_value_exactly() -> None:
    back = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert back[0] == {"a": "x", "n": "1234567", "share": "0.123456789", "none": "", "late": ""}
    assert back[1]["a"] == "y,[b]z"
    assert json.loads(to_json(ROWS)) == ROWS
    with pytest.raises(ValueError, match="JSON"):
        to_json([{"x": float("nan")}])


def test_a_table_shows_the_columns_asked_for() -> None:
    lines = to_table(ROWS, ["a", "share", "n", "late"], title="what").splitlines()
    assert lines[0] == "what"
    assert [line.split() for line in lines[2:] if "─" not in line] == [
        ["a", "share", "n", "late"],
        ["x", "0.1235", "1,234,567", "-"],
        ["y,[b]z", "1.0000", "-", "yes"],
    ]


def test_a_wide_table_is_not_cut() -> None:
    row = {f"column{i}": "value" * 5 for i in range(40)}
    assert to_table([row]).count("value") == 200


def test_nothing_that_a_ticket_says_of_itself_controls_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    escapes = "\x1b]0;owned\x07\x1b[2J\u202e"
    texts = dict.fromkeys(("base_model", "score", "scope", "schedule", "metric", "created", "sources"), escapes)
    path = random_ticket(0.5, 1, **texts).save(tmp_path / "t")
    print_tickets([path])
    shown = capsys.readouterr().out
    assert shown.count(r"\x1b]0;owned\x07\x1b[2J\u202e") == len(texts)
    assert not [character for character in shown if character != "\n" and not character.isprintable()]


def test_a_checksum_that_is_none_is_refused(tmp_path: Path) -> None:
    # It becomes part of file names.
    path = random_ticket(0.5, 1).save(tmp_path / "t")
    content = path.read_bytes()
    for checksum in ("../../../x", "\x1b[2J", "a" * 63):
        rewritten = with_metadata(content, checksum=checksum)
        path.write_bytes(rewritten)
        with pytest.raises(UserError, match="is no SHA-256"):
            ticket_info([path])


def with_metadata(content: bytes, **changes: str) -> bytes:
    """A ticket file with some metadata changed, and no checksum over it."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"] |= changes
    del header["__metadata__"]["metadata_checksum"]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def test_a_name_of_endless_length_is_refused(tmp_path: Path) -> None:
    path = random_ticket(0.5, 1).save(tmp_path / "t")
    path.write_bytes(with_metadata(path.read_bytes(), base_model="x" * 6000))
    with pytest.raises(UserError, match="'base_model' has 6,000 characters"):
        ticket_info([path])


def test_the_units_of_a_ticket_are_counted(tmp_path):
    kept = random_kept(1)
    path = ticket(masks_of(kept), granularity="neuron", units=neurons().to_json()).save(tmp_path / "t.safetensors")
    (record,) = ticket_info([path])
    assert record["units"] == {"kept": sum(map(len, kept.values())), "total": 20}
    assert f"units       {record['units']['kept']} of 20 neurons kept" in info_text([record])
