import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lnsub.common.errors import UserError
from lnsub.runs.folder import ticket_filename
from lnsub.tickets.file_format import FORMAT, read_header
from lnsub.tickets.packed import count_bits
from lnsub.tickets.provenance import Provenance
from lnsub.tickets.ticket import Ticket, load_all
from tests.support.file_limits import file_size_limit
from tests.support.ticket_factory import SHAPES, provenance, random_masks, random_ticket, ticket


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return random_ticket(0.4, 1).save(tmp_path / "s0.50.safetensors")


def rewritten(path: Path, change) -> Path:
    """Writes the ticket again with the safetensors library after `change(tensors, metadata)`.

    Without the checksum over the metadata, which would be what refuses any change.
    """
    from safetensors import safe_open

    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    del metadata["metadata_checksum"]
    change(tensors, metadata)
    save_file(tensors, path, metadata)
    return path


def test_a_ticket_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    masks = random_masks(0.3, seed=2)
    made = ticket(masks, seed=7, round=3, sparsity=0.875, metric="accuracy=0.71", sources='{"how": "union"}')
    back = Ticket.load(made.save(tmp_path / "new" / "folder" / "t.safetensors"))
    assert back.provenance == made.provenance
    assert back.shapes == SHAPES
    for name, mask in masks.items():
        bits = np.unpackbits(back.masks[name], count=mask.size, bitorder="little").astype(bool)
        assert np.array_equal(bits.reshape(mask.shape), mask)


def test_the_file_is_what_the_format_says(saved: Path) -> None:
    import hashlib

    from safetensors import safe_open

    tensors = load_file(saved)
    with safe_open(saved, framework="numpy") as file:
        metadata = file.metadata()
    digest = hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()
    others = sorted((key, value) for key, value in metadata.items() if key != "metadata_checksum")
    assert metadata == {
        "metadata_checksum": hashlib.sha256(json.dumps(others).encode()).hexdigest(),
        "format": "lnsub-ticket/1",
        "shapes": json.dumps({name: list(SHAPES[name]) for name in sorted(SHAPES)}),
        "checksum": digest,
        "sparsity": "0.5",
        "base_model": "tiny-bert",
        "base_fingerprint": "ab" * 32,
        "task": "xnli",
        "language": "fr",
        "seed": "0",
        "round": "5",
        "score": "magnitude",
        "scope": "global",
        "schedule": "linear",
        "metric": "",
        "lnsub_version": provenance().lnsub_version,
        "created": "2026-01-02T03:04:05+00:00",
    }


def test_counts_agree_with_the_boolean_masks() -> None:
    masks = random_masks(0.3, seed=3)
    made = ticket(masks)
    kept, total = sum(int(m.sum()) for m in masks.values()), sum(m.size for m in masks.values())
    assert (made.kept, made.total) == (kept, total)
    assert made.density == pytest.approx(kept / total)
    assert made.sparsity == pytest.approx(1 - kept / total)
    assert made.kept_by_name == {name: int(masks[name].sum()) for name in sorted(masks)}


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 64, 1001])
def test_count_bits_counts_arrays_of_any_length(size: int) -> None:
    packed = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert count_bits(packed) == int(np.unpackbits(packed).sum())


def test_the_checksum_is_that_of_the_masks_alone() -> None:
    masks = random_masks(0.3, seed=4)
    backwards = dict(reversed(masks.items()))
    assert ticket(masks, language="fr").checksum == ticket(backwards, language="de", seed=3).checksum
    before = ticket(masks).checksum
    masks["pooler.dense.weight"][0, 0] ^= True
    assert ticket(masks).checksum != before


def test_bytes_depend_on_nothing_but_the_ticket(tmp_path: Path) -> None:
    masks = random_masks(0.3, seed=5)
    first = ticket(masks).save(tmp_path / "a").read_bytes()
    # Another process has other hash seeds, which is what makes safetensors' own writer put metadata in another order.
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from tests.support.ticket_factory import *;"
        "ticket(dict(reversed(random_masks(0.3, 5).items()))).save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "b", Path(__file__).parents[2]], check=True)
    assert (tmp_path / "b").read_bytes() == first


def test_provenance_is_read_from_the_header_alone(saved: Path) -> None:
    assert read_header(saved).provenance == provenance()
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    assert read_header(saved).provenance == provenance()


@pytest.mark.parametrize(
    ("sparsity", "name"),
    [
        (0.1, "0.10"),
        (0.5, "0.50"),
        (0.875, "0.875"),
        (0.1 + 0.2, "0.30"),
        (0, "0.00"),
        (1, "1.00"),
        (1 / 3, "0.333333"),
    ],
)
def test_files_are_named_for_their_sparsity(sparsity: float, name: str) -> None:
    assert ticket_filename(sparsity) == f"s{name}.safetensors"


def test_a_sparsity_that_is_none_names_no_file() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        ticket_filename(1.5)


def test_a_foreign_base_is_refused_and_both_are_named() -> None:
    made = random_ticket(0.5, 1)
    made.check_base("ab" * 32, "a local copy")
    with pytest.raises(UserError, match=r"xnli/fr/seed0/s0.50 .*tiny-bert .*abababababab.*other-model .*cdcdcdcd"):
        made.check_base("cd" * 32, "other-model")


# Files that are not whole tickets ----------------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no ticket .*nowhere\.safetensors"):
        Ticket.load(tmp_path / "nowhere.safetensors")


def test_a_folder_is_no_ticket(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the ticket"):
        Ticket.load(tmp_path)


def test_a_truncated_file_is_refused_at_every_length(saved: Path) -> None:
    data = saved.read_bytes()
    for length in [0, 5, 8, 100, len(data) - 40, len(data) - 1]:
        saved.write_bytes(data[:length])
        for read in (Ticket.load, read_header):
            with pytest.raises(UserError, match="safetensors file, so it is no ticket"):
                read(saved)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("sparsity: 0.5\n" * 50)
    with pytest.raises(UserError, match="safetensors file, so it is no ticket"):
        Ticket.load(tmp_path / "t")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_model_file_is_no_ticket(tmp_path: Path, metadata: dict | None) -> None:
    save_file({"w": np.zeros((2, 2), np.float32)}, tmp_path / "m.safetensors", metadata)
    with pytest.raises(UserError, match=r"m\.safetensors is a safetensors file but not a ticket"):
        Ticket.load(tmp_path / "m.safetensors")


def test_a_newer_format_asks_for_an_update(saved: Path) -> None:
    rewritten(saved, lambda tensors, metadata: metadata.update(format="lnsub-ticket/2"))
    with pytest.raises(UserError, match=rf"lnsub-ticket/2, this lnsub reads {FORMAT}: update lnsub"):
        Ticket.load(saved)


def test_any_changed_mask_byte_is_refused(saved: Path) -> None:
    data = saved.read_bytes()
    masks = sum(-(-int(np.prod(shape)) // 8) for shape in SHAPES.values())
    for position in range(len(data) - masks, len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        saved.write_bytes(changed)
        with pytest.raises(UserError, match=r"changed or damaged: its checksum says [0-9a-f]+, its masks give"):
            Ticket.load(saved)


@pytest.mark.parametrize(
    "key", ["shapes", "checksum", "seed", "task", "base_fingerprint", "sparsity", "created", "metric", "round"]
)
def test_missing_metadata_is_named(saved: Path, key: str) -> None:
    rewritten(saved, lambda tensors, metadata: metadata.pop(key))
    with pytest.raises(UserError, match=f"changed or damaged: its metadata has no '{key}'"):
        Ticket.load(saved)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "one", "its 'seed' is 'one', which is not a number"),
        ("round", "1.5", "its 'round' is '1.5', which is not a number"),
        ("sparsity", "half", "its 'sparsity' is 'half', which is not a number"),
        ("sparsity", "nan", "its 'sparsity' is 'nan', which is not between 0 and 1"),
        ("sparsity", "1.5", "its 'sparsity' is '1.5', which is not between 0 and 1"),
        ("checksum", "0" * 64, "its checksum says 000000000000, its masks give"),
        ("shapes", "[1, 2]", "its 'shapes' cannot be read"),
        ("shapes", '{"pooler.dense.weight": 3}', "its 'shapes' cannot be read"),
        ("shapes", '{"pooler.dense.weight": ["3"]}', "its 'shapes' cannot be read"),
        ("shapes", "{", "its 'shapes' cannot be read"),
        ("shapes", '{"pooler.dense.weight": [6, 6]}', "has a mask but no shape"),
    ],
)
def test_wrong_metadata_is_named(saved: Path, key: str, value: str, message: str) -> None:
    rewritten(saved, lambda tensors, metadata: metadata.update({key: value}))
    with pytest.raises(UserError, match=message.replace("[", r"\[")):
        Ticket.load(saved)


def test_a_shape_without_a_mask_is_named(saved: Path) -> None:
    rewritten(saved, lambda tensors, metadata: tensors.pop("pooler.dense.weight"))
    with pytest.raises(UserError, match=r"pooler\.dense\.weight has a shape but no mask"):
        Ticket.load(saved)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros(4, np.uint8), r"has 4 bytes, its shape \[6, 6\] needs 5"),
        (np.zeros(6, np.uint8), r"has 6 bytes, its shape \[6, 6\] needs 5"),
        (np.zeros((5, 1), np.uint8), "is uint8 of 2 dimensions"),
        (np.array([0, 0, 0, 0, 0b10000], np.uint8), "has bits set after its last weight"),
        (np.zeros(5, np.float32), "is F32, not packed in bytes"),
    ],
)
def test_a_mask_that_does_not_fit_its_shape_is_named(saved: Path, mask: np.ndarray, message: str) -> None:
    rewritten(saved, lambda tensors, metadata: tensors.update({"pooler.dense.weight": mask}))
    with pytest.raises(UserError, match=rf"the mask of pooler\.dense\.weight {message}"):
        Ticket.load(saved)


@pytest.mark.parametrize(
    ("masks", "shapes"),
    [
        ({}, {}),
        ({"w": np.zeros(1, np.uint8)}, {"v": (8,)}),
        ({"w": np.zeros(1, np.uint8)}, {"w": (9,)}),
        ({"w": np.zeros(1, bool)}, {"w": (8,)}),
        ({"w": np.zeros(0, np.uint8)}, {"w": (0, 3)}),
        ({"w": np.array([8], np.uint8)}, {"w": (3,)}),
    ],
)
def test_a_ticket_cannot_be_made_of_masks_that_do_not_fit(masks: dict, shapes: dict) -> None:
    with pytest.raises(ValueError, match="not a ticket's mask"):
        Ticket(masks, shapes, provenance())


def test_strided_masks_are_saved_right(tmp_path: Path) -> None:
    packed = np.arange(16, dtype=np.uint8)
    made = Ticket({"w": packed[::2]}, {"w": (64,)}, provenance())
    assert Ticket.load(made.save(tmp_path / "t")).masks["w"].tolist() == packed[::2].tolist()


# Writing is all or nothing -----------------------------------------------------------------------------


def test_a_disk_that_fills_up_leaves_the_old_ticket(tmp_path: Path, saved: Path) -> None:
    before = saved.read_bytes()
    big = random_ticket(0.5, 1, {"w": (1000, 1000)})
    with file_size_limit(20_000), pytest.raises(UserError, match=rf"{saved}.* size limit"):
        big.save(saved)
    assert saved.read_bytes() == before
    assert list(tmp_path.iterdir()) == [saved]


def test_a_target_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(UserError, match="Cannot write"):
        random_ticket(0.5, 1).save(tmp_path / "folder")
    assert [p.name for p in tmp_path.rglob("*")] == ["folder", "inside"]


def test_a_file_in_the_place_of_the_folder_is_reported(saved: Path) -> None:
    with pytest.raises(UserError, match="Cannot make the folder"):
        random_ticket(0.5, 1).save(saved / "t.safetensors")


def test_many_are_read_in_their_order_and_the_first_that_is_missing_is_named(tmp_path: Path) -> None:
    made = [random_ticket(0.4, number) for number in range(20)]
    paths = [ticket.save(tmp_path / f"{number}.safetensors") for number, ticket in enumerate(made)]
    assert [ticket.checksum for ticket in load_all(paths)] == [ticket.checksum for ticket in made]
    for number in (7, 3):
        paths[number].unlink()
    with pytest.raises(UserError, match=r"there is no ticket .*3\.safetensors"):
        load_all(paths)


def test_a_reader_never_sees_half_a_ticket(tmp_path: Path) -> None:
    shapes = {"w": (1000, 801)}
    versions = [random_ticket(0.5, seed, shapes) for seed in (0, 1)]
    path = versions[0].save(tmp_path / "t")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for version in versions:
                version.save(path)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {Ticket.load(path).checksum for _ in range(200)}
    finally:
        stop.set()
        writer.join()
    assert seen <= {version.checksum for version in versions}


def test_importing_tickets_and_overlap_needs_no_heavy_package() -> None:
    code = (
        "import sys, lnsub.tickets.ticket, lnsub.analysis.overlap.jaccard, lnsub.tickets.info;"
        "print([m for m in ('torch', 'lightning', 'transformers', 'pandas', 'rich', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_new_provenance_says_when_and_by_which_version() -> None:
    from datetime import datetime

    from lnsub.version import __version__

    new = Provenance("m", "f", "t", "l", 0, 0, 0.5, "magnitude", "global", "linear")
    assert new.lnsub_version == __version__
    assert datetime.fromisoformat(new.created).utcoffset().total_seconds() == 0
