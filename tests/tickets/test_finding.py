import threading
from pathlib import Path

import pytest

from lnsub.common.errors import UserError
from lnsub.tickets.finding import FoundTicket
from lnsub.tickets.ticket import Ticket, load_with_header
from tests.support.ticket_factory import random_ticket


def test_a_found_ticket_is_loaded_whole(tmp_path: Path) -> None:
    path = random_ticket(0.5, 1).save(tmp_path / "t.safetensors")
    found = FoundTicket.read(path)
    assert found.load().checksum == found.checksum == Ticket.load(path).checksum


def test_a_found_ticket_that_is_replaced_is_refused(tmp_path: Path) -> None:
    path = random_ticket(0.5, 1).save(tmp_path / "t.safetensors")
    found = FoundTicket.read(path)
    for other in (random_ticket(0.5, 2), random_ticket(0.5, 1, language="ur")):
        other.save(path)
        with pytest.raises(UserError, match=r"t\.safetensors has been replaced by another"):
            found.load()
    random_ticket(0.5, 1).save(path)
    assert found.load().checksum == found.checksum


def test_no_read_mixes_two_tickets_that_replace_each_other(tmp_path: Path) -> None:
    tickets = {language: random_ticket(0.5, n, language=language) for n, language in enumerate(("fr", "ur"))}
    checksums = {language: ticket.checksum for language, ticket in tickets.items()}
    path = tickets["fr"].save(tmp_path / "t.safetensors")
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for ticket in tickets.values():
                ticket.save(path)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        read = set()
        for _ in range(500):
            ticket, header = load_with_header(path)
            assert ticket.checksum == header.checksum == checksums[ticket.provenance.language]
            read.add(ticket.provenance.language)
    finally:
        stop.set()
        thread.join()
    assert read == set(tickets)
