"""Describing and verifying tickets, for ``lnsub ticket``."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lnsub.common.errors import UserError
from lnsub.common.printable import printable
from lnsub.common.tables import to_table
from lnsub.tickets.density import density_by
from lnsub.tickets.ticket import Ticket, load_with_header

MOST_LAYERS = 1000
"""The most layers that :func:`info_text` shows; no model has so many, and laying out a table of more takes long."""


def ticket_info(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Describes tickets.

    Args:
        paths: ticket files.

    Returns:
        One record per ticket, in the order given: ``path``, the fields of its :class:`Provenance` (of ``units``, how
        many are ``kept`` and how many there are in ``total``), ``measured_sparsity``, ``kept``, ``total``,
        ``matrices``, ``checksum``, and ``densities``: one record for each layer and kind of matrix, with ``layer``,
        ``kind``, ``density``, ``kept`` and ``weights``.

    Raises:
        UserError: a file is not an intact ticket.
    """
    return [_info(Ticket.load(path)) for path in paths]


def _info(ticket: Ticket) -> dict[str, Any]:
    return {
        "path": ticket.where,
        **dataclasses.asdict(ticket.provenance),
        "units": _units(ticket),
        "measured_sparsity": ticket.sparsity,
        "kept": ticket.kept,
        "total": ticket.total,
        "matrices": len(ticket.masks),
        "checksum": ticket.checksum,
        "densities": density_by(ticket.kept_by_name, ticket.weights_by_name),
    }


def _units(ticket: Ticket) -> dict[str, int] | None:
    """How many heads, neurons or rows a ticket keeps, and how many there are; None for single weights."""
    if ticket.units is None:
        return None
    kept = ticket.units.kept(ticket.bits()).values()
    return {"kept": sum(int(bits.sum()) for bits in kept), "total": sum(len(bits) for bits in kept)}


def info_text(records: Sequence[dict[str, Any]]) -> str:
    """Formats records of :func:`ticket_info` as text.

    Args:
        records: one or more records.

    Returns:
        A few lines per ticket; for a single ticket also a table of its density by layer and kind.
    """
    parts = ["\n".join(_lines(record)) for record in records]
    if len(records) == 1:
        densities = records[0]["densities"]
        kinds = list(dict.fromkeys(d["kind"] for d in densities))
        rows: dict[str, dict[str, Any]] = {}
        for d in densities:
            rows.setdefault(d["layer"], {"layer": d["layer"], **dict.fromkeys(kinds)})[d["kind"]] = d["density"]
        shown = list(rows.values())[:MOST_LAYERS]
        parts.append(to_table(shown, title="density by layer and kind"))
        if len(rows) > MOST_LAYERS:
            parts.append(f"{len(rows) - MOST_LAYERS:,} further layers are not shown")
    return "\n\n".join(parts)


def print_tickets(paths: Sequence[str | Path]) -> None:
    """Prints the :func:`info_text` of tickets."""
    sys.stdout.write(info_text(ticket_info(paths)) + "\n")


def _lines(record: dict[str, Any]) -> list[str]:
    r = record
    lines = {
        "ticket": r["path"],
        "found on": f"{r['task']}, language {r['language']}, seed {r['seed']}, round {r['round']}",
        "sparsity": f"{r['sparsity']:g} requested, {r['measured_sparsity']:.6f} measured",
        "weights": f"{r['kept']:,} kept of {r['total']:,}, in {r['matrices']} matrices",
        **(
            {"units": f"{r['units']['kept']:,} of {r['units']['total']:,} {r['granularity']}s kept"}
            if r["units"]
            else {}
        ),
        "base model": f"{r['base_model']} (fingerprint {r['base_fingerprint'][:12]})",
        "pruned by": f"score {r['score']}, scope {r['scope']}, schedule {r['schedule']}",
        "metric": r["metric"] or "none",
        "created": f"{r['created']}, lnsub {r['lnsub_version']}",
        "checksum": r["checksum"],
    }
    lines |= {key: r[key] for key in ("condition", "rows", "labels", "sources", "calibration") if r[key]}
    return [f"{key:<11} {printable(value)}" for key, value in lines.items()]


def verify(paths: Sequence[str | Path]) -> tuple[list[str], bool]:
    """Checks whether files are intact tickets.

    Args:
        paths: the files.

    Returns:
        One line per file: ``ok PATH``, with a remark if no checksum covers the metadata, or the error message; and
        whether all of them are intact.
    """
    lines, good = [], True
    for path in paths:
        try:
            _, header = load_with_header(path)
            ok = f"ok {printable(str(path))}"
            lines.append(ok if header.covered else f"{ok} (metadata not covered by a checksum)")
        except UserError as error:
            lines.append(printable(str(error)))
            good = False
    return lines, good
