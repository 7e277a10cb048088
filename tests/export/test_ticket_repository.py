"""Tickets and models to and from the Hub: the program and the real client, against a stand-in on the loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from lnsub.models.inherited import Theta0
from lnsub.tickets.ticket import Ticket
from tests.support.command import arguments
from tests.support.exports import masks_of
from tests.support.hub_server import READ_ONLY, TOKEN, HubServer
from tests.support.ticket_factory import random_ticket, ticket

NAME = "my-lab/tickets"
FRENCH = "tickets/xnli/fr/seed57/s0.50.safetensors"

Lnsub = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server
        assert server.unknown == []


@pytest.fixture
def lnsub(hub: HubServer, tmp_path: Path) -> Lnsub:
    """Runs the program in a process of its own, as a user with a token."""

    def run(*args: object, token: str | None = TOKEN, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **hub.environment(tmp_path / "hf", token), **changes}
        command = [sys.executable, "-m", "lnsub", *map(str, args)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A tree of runs with two tickets."""
    for number, language in enumerate(("fr", "ur")):
        made = random_ticket(0.5, number, language=language, seed=57, metric="accuracy=0.7", base_model="bert-base-x")
        made.save(tmp_path / "runs" / "xnli" / language / "seed57" / "tickets" / "s0.50.safetensors")
    return tmp_path / "runs"


def refused(done: subprocess.CompletedProcess[str], *facts: str) -> None:
    """One sentence with these facts in it, exit status 2, and no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("lnsub: error: ")]
    assert (done.returncode, len(lines)) == (2, 1), done.stderr
    assert all(fact in lines[0] for fact in facts), lines[0]
    assert "Traceback" not in done.stderr


def header(card: str) -> dict[str, object]:
    return yaml.safe_load(card.split("---\n")[1])


def test_pushes_add_up_and_the_card_lists_everything(lnsub: Lnsub, hub: HubServer, runs: Path, tmp_path: Path) -> None:
    done = lnsub("ticket", "push", "runs", "--to", NAME, "--license", "mit")
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/{NAME}: 2 added; it has 2 now" in done.stdout
    french = runs / "xnli" / "fr" / "seed57" / "tickets" / "s0.50.safetensors"
    assert hub.files(NAME)[FRENCH] == french.read_bytes()
    # What someone has written on the site stays.
    tree = hub.repositories[NAME].branches["main"]
    tree.append(
        tree[-1] | {"README.md": tree[-1]["README.md"].replace(b"tags:\n", b"tags:\n- ours\n") + b"\nSee us.\n"}
    )

    other = random_ticket(0.1, 7, language="fr", seed=57, base_model="bert-base-x").save(tmp_path / "other.safetensors")
    done = lnsub("ticket", "push", "runs", other, "--to", NAME)
    beside = f"tickets/xnli/fr/seed57/s0.50-{Ticket.load(other).checksum[:12]}.safetensors"
    assert f"added {beside}\n{hub.url}/{NAME}: 1 added, 2 were there already; it has 3 now" in done.stdout
    files = hub.files(NAME)
    assert files[FRENCH] == french.read_bytes()
    assert files[beside] == other.read_bytes()
    card = files["README.md"].decode()
    assert all(f"({path})" in card for path in files if path.endswith(".safetensors"))
    assert card.count("accuracy=0.7") == 2
    assert card.endswith("\nSee us.\n")
    assert header(card) == {
        "library_name": "lnsub",
        "base_model": "bert-base-x",
        "language": ["fr", "ur"],
        "tags": ["ours", "lnsub", "lottery-ticket", "pruning", "sparsity", "xnli"],
        "license": "mit",
    }

    commits = len(tree)
    assert "0 added, 3 were there already" in lnsub("ticket", "push", "runs", other, "--to", NAME).stdout
    assert len(tree) == commits


def test_a_pull_brings_the_same_files_and_replaces_none(
    lnsub: Lnsub, hub: HubServer, runs: Path, tmp_path: Path
) -> None:
    lnsub("ticket", "push", "runs", "--to", NAME)
    done = lnsub("ticket", "pull", NAME, "--output", "here")
    assert done.returncode == 0, done.stderr
    pulled = {p.relative_to(tmp_path / "here").as_posix(): p for p in (tmp_path / "here").rglob("*") if p.is_file()}
    assert {path: p.read_bytes() for path, p in pulled.items()} == {
        path: content for path, content in hub.files(NAME).items() if path != "README.md"
    }
    pulled[FRENCH].write_bytes(b"mine")
    refused(lnsub("ticket", "pull", NAME, "--output", "here"), "not the ticket that my-lab/tickets has")
    assert pulled[FRENCH].read_bytes() == b"mine"
    assert lnsub("ticket", "pull", NAME, "--tickets", "tickets/xnli/ur/**", "--output", "here").returncode == 0
    refused(lnsub("ticket", "pull", NAME, "--tickets", "nothing/*", "--output", "here"), "no ticket that matches")
    # A ticket that was damaged on the site is not written.
    tree = hub.repositories[NAME].branches["main"]
    tree.append(tree[-1] | {FRENCH: tree[-1][FRENCH][:-1] + b"\0"})
    refused(lnsub("ticket", "pull", NAME, "--output", "new"), "changed or damaged")
    assert not (tmp_path / "new").exists()


def test_names_on_the_hub_stand_for_tickets(lnsub: Lnsub, hub: HubServer, runs: Path) -> None:
    lnsub("ticket", "push", "runs", "--to", NAME)
    lnsub("ticket", "push", "runs/xnli/fr", "--to", NAME, "--revision", "dev/fr")
    one, two = (f"hf://{NAME}/tickets/xnli/{language}/seed57/s0.50.safetensors" for language in ("fr", "ur"))
    here = [runs / "xnli" / language / "seed57" / "tickets" / "s0.50.safetensors" for language in ("fr", "ur")]
    assert lnsub("overlap", one, two).stdout == lnsub("overlap", *here).stdout
    every = f"hf://{NAME}/tickets/**/*.safetensors"
    assert lnsub("overlap", every).stdout == lnsub("overlap", *here).stdout
    info = lnsub("ticket", "info", f"hf://{NAME}@dev%2Ffr/{FRENCH}").stdout
    assert f"ticket      hf://{NAME}@dev%2Ffr/{FRENCH}" in info
    assert Ticket.load(here[0]).checksum in info
    assert lnsub("combine", "union", every, "--output", "both.safetensors").returncode == 0
    # What is in the cache needs no network; what is not is told apart from what is not on the Hub.
    seen = len(hub.requests)
    assert lnsub("ticket", "verify", every, one, HF_HUB_OFFLINE="1").stdout.count("ok hf://") == 3
    refused(lnsub("ticket", "info", f"hf://{NAME}/x.safetensors", HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE")
    assert len(hub.requests) == seen


def test_bad_names_are_told_in_one_sentence(lnsub: Lnsub, runs: Path) -> None:
    lnsub("ticket", "push", "runs", "--to", NAME)
    for args, *facts in (
        (["info", f"hf://{NAME}/no.safetensors"], "no file", "no.safetensors"),
        (["info", f"hf://{NAME}@never/{FRENCH}"], "no such revision"),
        (["info", "hf://my-lab/nothing/x.safetensors"], "no repository", "my-lab/nothing", "hf auth login"),
        (["info", "hf://my-lab/x.safetensors"], "hf://ORG/NAME/PATH"),
        (["info", f"hf://{NAME}/../x.safetensors"], "not a plain one"),
        (["info", "hf://my lab/tickets/x.safetensors"], "letters, digits"),
        (["info", f"hf://{NAME}/no/*.safetensors"], "No file", "matches"),
        (["pull", "my-lab/nothing", "--output=x"], "no repository"),
    ):
        refused(lnsub("ticket", *args), *facts)


def test_pushes_that_cannot_be_are_told_in_one_sentence(
    lnsub: Lnsub, hub: HubServer, runs: Path, tmp_path: Path
) -> None:
    assert lnsub("ticket", "push", "runs", "--to", NAME).returncode == 0
    random_ticket(0.5, 3, base_fingerprint="cd" * 32).save(tmp_path / "another.safetensors")
    random_ticket(0.5, 4, language="zh", base_model="bert-base-x").save(tmp_path / "new.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(hub.files(NAME)[FRENCH][:-1])
    (tmp_path / "empty").mkdir()
    before = hub.files(NAME)
    for args, changes, *facts in (
        (["runs", "--to=tickets"], {}, "give ORG/NAME"),
        (["runs", f"--to={NAME}"], {"token": None}, "token", "hf auth login"),
        (["new.safetensors", f"--to={NAME}"], {"token": "hf_unknown"}, "does not accept your token"),
        (["new.safetensors", f"--to={NAME}"], {"token": READ_ONLY}, "may not", "write access"),
        (["runs", "--to=others/tickets"], {}, "may not"),
        (["runs", f"--to={NAME}", "--private"], {}, "is public"),
        (["runs", f"--to={NAME}", "--license=no-such-licence"], {}, "must be one of [apache-2.0, mit]"),
        (["runs", f"--to={NAME}"], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
        (["runs", f"--to={NAME}"], {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached", "network"),
        (["runs", "another.safetensors", f"--to={NAME}"], {}, "base model", "weights differ"),
        (["another.safetensors", f"--to={NAME}"], {}, "base model", "weights differ"),
        (["runs", "damaged.safetensors", f"--to={NAME}"], {}, "not a complete safetensors file"),
        (["empty", f"--to={NAME}"], {}, "no ticket in empty"),
    ):
        refused(lnsub("ticket", "push", *args, **changes), *facts)
    assert hub.files(NAME) == before
    hub.push_beside = NAME
    refused(lnsub("ticket", "push", "new.safetensors", "--to", NAME), "meanwhile", "run the same command again")
    assert "1 added" in lnsub("ticket", "push", "new.safetensors", "--to", NAME).stdout
    assert "beside.txt" in hub.files(NAME)


def test_a_private_repository_is_seen_with_a_token_alone(lnsub: Lnsub, hub: HubServer, runs: Path) -> None:
    assert lnsub("ticket", "push", "runs", "--to", NAME, "--private").returncode == 0
    assert hub.repositories[NAME].private
    assert lnsub("ticket", "verify", f"hf://{NAME}/{FRENCH}", token=READ_ONLY).returncode == 0
    refused(lnsub("ticket", "info", f"hf://{NAME}/tickets/xnli/ur/seed57/s0.50.safetensors", token=None), "private one")


@pytest.mark.slow
def test_a_fit_a_transfer_and_an_export_take_a_ticket_from_the_hub(
    bert: str, data: Path, lnsub: Lnsub, hub: HubServer, tmp_path: Path
) -> None:
    theta_0 = Theta0.load(bert)
    found = ticket(
        masks_of(theta_0, "wikiann"),
        base_model=bert,
        base_fingerprint=theta_0.fingerprint,
        task="wikiann",
        language="en",
        sparsity=0.6,
    )
    found.save(tmp_path / "t.safetensors")
    done = lnsub("ticket", "push", "t.safetensors", "--to", NAME)
    assert done.returncode == 0, done.stderr
    assert f"remark: these tickets name their base model as {bert}" in done.stderr
    assert "base_model" not in header(hub.files(NAME)["README.md"].decode())  # a folder here means nothing elsewhere
    assert str(Path(bert).parent) not in hub.files(NAME)["README.md"].decode()
    name = f"hf://{NAME}/tickets/wikiann/en/seed0/s0.60.safetensors"

    fit = [a for a in arguments(bert, data, tmp_path / "runs", wandb="null") if "trainer.callbacks" not in a]
    settings = [a for a in fit if a.startswith(("--model.", "--data.", "--trainer.")) and ".language=" not in a]
    every = f"hf://{NAME}/**/*.safetensors"
    commands = [
        [*fit, "--trainer.callbacks=null", f"--model.ticket={name}"],
        ["transfer", fit[1], f"--tickets={every}", "--languages=en,fr", "--output=cells", "--list", "--", *settings],
        ["export", name, "--output=model", "--push=my-lab/model", "--private"],
        ["export", name, "--output=other", f"--push={NAME}"],
    ]
    done = in_one_process(hub, tmp_path, commands)
    assert done.stderr.count("lnsub: error: ") == 1, done.stderr
    assert "my-lab/tickets is a repository of tickets" in done.stderr
    run = tmp_path / "runs" / "wikiann" / "en" / "seed57"
    assert found.checksum in (run / "results.jsonl").read_text()
    assert f"ticket: {name}" in (run / "config.yaml").read_text()
    assert found.checksum[:8] in done.stdout  # in the names of the cells that the transfer lists
    assert f"{hub.url}/my-lab/model: the folder, pushed\n" in done.stdout
    assert hub.repositories["my-lab/model"].private
    folder = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    assert hub.files("my-lab/model") == folder
    assert 'from_pretrained("my-lab/model")' in folder["README.md"].decode()
    done = lnsub("ticket", "pull", "my-lab/model", "--output", "back")
    assert Ticket.load(tmp_path / "back" / "ticket.safetensors").checksum == found.checksum
    refused(lnsub("export", name, "--output", "third", "--private"), "add --push")
    refused(lnsub("export", name, "--output", "third", "--push", "my-lab/model", token=None), "token")
    assert not (tmp_path / "third").exists()


def in_one_process(hub: HubServer, folder: Path, commands: list[list[str]]) -> subprocess.CompletedProcess[str]:
    """Runs commands one after the other, as importing torch takes longer than any of them."""
    code = "import json, sys; from lnsub.cli.main import main; [main(args) for args in json.loads(sys.argv[1])]"
    command = [sys.executable, "-c", code, json.dumps(commands)]
    environment = {**os.environ, **hub.environment(folder / "hf")}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
