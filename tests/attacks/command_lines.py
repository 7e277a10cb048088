"""Bad command lines: arguments that are missing, unknown, misspelled, too long, or places where no such file is."""

import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors.torch import save_file

from lnsub.pruning.masks import Mask
from lnsub.tickets.ticket import Ticket
from tests.attacks.cases import Case, copy_of_runs, fit, the_run
from tests.support.trials import World

Make = Callable[[Path, World], list[str]]

# T, U: tickets. M: masks by another program. B: the base model. P: sentence pairs. R: a tree of runs. C: a
# configuration. What is left is as it is.
GOOD: dict[str, list[str]] = {
    "ticket info": ["ticket", "info", "T"],
    "ticket verify": ["ticket", "verify", "T", "U"],
    "ticket push": ["ticket", "push", "T", "--to=my-lab/tickets"],
    "ticket pull": ["ticket", "pull", "my-lab/tickets", "--output=out/pulled"],
    "ticket import": [
        "ticket",
        "import",
        "M",
        "--base-model=B",
        "--task=xnli",
        "--language=en",
        "--output=out/made.safetensors",
    ],
    "overlap": ["overlap", "T", "U", "--by=layer", "--output=out/table"],
    "overlap, inherited": ["overlap", "T", "U", "--inherited=B", "--inherited-output=out/masks"],
    "combine": ["combine", "union", "T", "U", "--output=out/made.safetensors"],
    "combine departures": [
        *("combine", "departures", "T", "U", "--inherited=T", "--part=own", "--output=out/made.safetensors"),
    ],
    "export": ["export", "T", "--output=out/model", "--base-model=B"],
    "retrieve": ["retrieve", "--base-model=B", "--pairs=P", "--output=out/table", "--layers=0,2", "--k=1"],
    "retrieve, recorded": ["retrieve", "--base-model=B", "--pairs=P", "--tickets=T", "--record=out/records"],
    "report": ["report", "R", "--output=out/report.html", "--sparsities=0.3"],
    "transfer": ["transfer", "--config=C", "--tickets=T", "--languages=en", "--output=out/t", "--seeds=1"],
    "prune": [
        *("prune", "--config=C", "--score=wanda", "--languages=en", "--output=out/p", "--sparsities=0.5"),
        "--examples=2",
    ],
    "ablate": [
        *("ablate", "--config=C", "--tickets=T", "--languages=en", "--output=out/a", "--checkpoint=K"),
        *("--draws=1", "--examples=2"),
    ],
    "dashboard": ["dashboard", "--entity=e", "--project=p", "--seeds=57", "--dry-run"],
    "completion": ["completion", "bash"],
    "demo": ["demo", "--output=out/demo", "--languages=en,fr"],
    "fit": ["fit", "--config=C", "--output=out"],
}
NEEDED: dict[str, list[int]] = {  # places of arguments without which the command is none
    "ticket info": [1, 2],
    "ticket verify": [1],
    "ticket push": [2, 3],
    "ticket pull": [2, 3],
    "ticket import": [2, 3, 4, 5, 6],
    "combine": [1, 4],
    "combine departures": [1, 2, 4, 5, 6],
    "export": [1, 2],
    "retrieve": [1, 2],
    "report": [1],
    "transfer": [1, 2, 3, 4],
    "prune": [1, 2, 3, 4, 5],
    "ablate": [1, 2, 3, 4, 5],
    "dashboard": [1, 2],
    "completion": [1],
}
PLACES: dict[str, tuple[int, ...]] = {  # of arguments that name files or folders to read
    "ticket info": (2,),
    "ticket verify": (3,),
    "ticket push": (2,),
    "ticket import": (2, 3),
    "overlap": (1,),
    "overlap, inherited": (3,),
    "combine": (3,),
    "combine departures": (3, 4),
    "export": (1, 3),
    "retrieve": (1, 2),
    "retrieve, recorded": (3,),
    "report": (1,),
    "transfer": (1, 2),
    "prune": (1,),
    "ablate": (1, 2, 5),
    "fit": (1,),
}
NOWHERE: dict[str, str] = {
    "nothing": "nowhere",
    "nothing deep": "no/where/at/all.safetensors",
    "an empty name": "",
    "a blank": " ",
    "below a file": "file/x",
    "a link to itself": "loop",
    "a dangling link": "dangling",
    "a FIFO": "fifo",
    "a device": "/dev/null",
    "a device without end": "/dev/zero",
    "a text": "file",
    "an empty file": "empty",
    "an empty folder": "folder",
    "a name of 300 letters": "x" * 300,
    "a path of 6,000 letters": "x/" * 3000,
    "NUL": "a\0b",
    "line breaks": "a\nlnsub: error: b\n",
    "terminal escapes": "\x1b]0;owned\x07\x1b[2J",
    "half a surrogate": "\udcff\udcfe",
    "a right-to-left mark": "\u202exslx.exe",
    "a pattern of nothing": "no*[where]?",
    "an open pattern": "[",
    "a tilde": "~nobody/x",
    "a URL": "https://example.invalid/x",
    "a file on the Hub": "hf://my-lab/tickets/s0.50.safetensors",
    "a pattern on the Hub": "hf://my-lab/tickets@main/**/*.safetensors",
    "no file on the Hub": "hf://tickets",
    "a way out of the Hub": "hf://my-lab/tickets/../../x.safetensors",
    "a minus": "-",
    "5,000 digits": "9" * 5000,
}
WRITTEN: dict[str, int] = {  # the place of the argument that names what is written
    "ticket pull": 3,
    "ticket import": 6,
    "overlap": 4,
    "overlap, inherited": 4,
    "combine": 4,
    "combine departures": 6,
    "export": 2,
    "retrieve": 3,
    "retrieve, recorded": 4,
    "report": 2,
    "transfer": 4,
    "prune": 4,
    "ablate": 4,
    "fit": 2,
}
NO_OUTPUT: dict[str, str] = {
    "below a file": "file/x/y.html",
    "below a device": "/dev/null/x.html",
    "below a FIFO": "fifo/x.html",
    "in a system's folder": "/proc/lnsub/x.html",
    "in another system's folder": "/sys/lnsub.html",
    "a FIFO": "fifo.html",
    "a device": "/dev/full",
    "a link to a device": "device.html",
    "a name of 300 letters": "x" * 300 + ".html",
    "NUL": "a\0b.html",
    "a user's text": "file",
    "a user's page": "thesis.html",
    "a user's table": "people.csv",
}
VALUES: dict[str, dict[str, list[str]]] = {  # bad values by option
    "overlap": {
        "--by": ["galaxy", "layer,galaxy", "layer;kind", "\x1b[2J", "9" * 5000],
        "--format": ["xml", "", "TABLE"],
        "--seed": ["many", "1.5", "9" * 5000, "nan", ""],
        "--inherited": ["T", "nowhere/x", "/dev/null"],
        "--inherited-output": ["out/masks"],
        "--clusters": ["0", "1", "-2", "a", "1.5", "T", "\x1b[2J", "9" * 5000],
    },
    "ticket push": {
        "--to": ["", " ", "tickets", "a/b/c", "../x", "my lab/x", "-/-", "a/", "/", "\x1b[2J", "9" * 5000],
        "--revision": ["", " "],
        "--license": ["", " "],
    },
    "ticket pull": {
        "--tickets": ["", " ", "../*", "/etc/*", "a//b", "\x1b[2J", "9" * 5000],
        "--revision": ["", " ", "no/such", "..", "\x1b[2J", "9" * 5000],
    },
    "ticket import": {
        "--seed": ["", "a", "-2", "1.5", "9" * 5000, "4294967296", "nan"],
        "--scope": ["", "galaxy", "GLOBAL"],
        "--metric": ["high", "=1", "f1=", "f1=nan", "f1=inf", "\x1b[2J=1", f"{'f' * 5000}=1"],
        "--task": ["", "../x", "a/b", ".git", "x" * 300, "a\nb"],
        "--language": ["", "en+", "../x", "x" * 300],
    },
    "combine": {"how": ["xor", "", "UNION", "\0"]},
    "combine departures": {
        "--part": ["", "both", "OWN", "\0"],
        "--seed": ["", "a", "-1", "1.5", "9" * 5000, "4294967296"],
        "--inherited": ["", " ", "nowhere", "/dev/zero", "fifo", "\x1b[2J"],
    },
    "export": {
        "--base-model": ["nowhere/x", "T", "/dev/null", "a/b/c/d"],
        "--task": ["chess", "", "XNLI", "../x", "\x1b[2J"],
        "--checkpoint": ["nowhere.ckpt", "T", "/", "/dev/null", "fifo"],
        "--push": ["", " ", "model", "a/b/c", "../x", "my lab/x", "\x1b[2J", "9" * 5000],
        "--private": ["yes"],
    },
    "retrieve": {
        "--layers": ["99", "-1", "a", "0,x", "1.5", "9" * 5000, "9" * 15],
        "--languages": ["xx", "fr,xx", "../x"],
        "--pooling": ["max", ""],
        "--margin": ["sum", ""],
        "--k": ["0", "-1", "a", "nan", "9" * 5000, "1.5"],
        "--top": ["", "0", "-1", "a", "1,x", "1.5", "9" * 5000, "9" * 15, "99"],
        "--columns": ["", "en", "en,xx", "a,b,c", "en,en"],
        "--column": ["premise", ""],
        "--pairs": ["a:b", "a/b:fr-en", "a:b:c", ":", "a:", ":b", "a:../b", "https://example.invalid/x"],
        "--batch-tokens": ["0", "-5", "a", "1e9"],
        "--max-pairs": ["0", "-1", "many"],
        "--device": ["gpu", "cuda:99", "", "quantum", "cpu:cpu"],
        "--format": ["xml"],
    },
    "report": {
        "--sparsities": ["", "0", "1", "1.5", "-0.5", "half", "nan", "inf", "9" * 5000, ",,"],
        "--tolerance": ["-1", "1", "nan", "inf", "few", "9" * 5000],
        "--output": ["report.txt", "report", "out/report.pdf", ""],
        "--inherited": ["nowhere/x"],
    },
    "transfer": {
        "--languages": ["", ",", "xx", "en,xx", "../../x", "/tmp/x", ".git", "en+", "x" * 300, "e\nn", "\0"],
        "--seeds": ["a", "-1", "1.5", "9" * 5000, "57,x", "4294967296"],
        "--sparsities": ["0.99", "half", "nan", "9" * 5000],
        "--baselines": [
            "luck",
            "random,luck",
            "RANDOM",
            "random:0.1",
            "random_from:",
            "random_from:nan",
            "random_from:0.97",
        ],
        "--cell": ["0", "-1", "99", "a", "1.5", "9" * 5000, ""],
        "--share": [
            "0/1",
            "2/1",
            "1",
            "a/b",
            "1/0",
            "-1/2",
            "1/2/3",
            f"{'9' * 5000}/{'9' * 5001}",
            "1/2x",
            "/",
        ],
    },
    "prune": {
        "--score": ["", "wand", "WANDA", "magnitude_init", "\x1b[2J"],
        "--languages": ["", ",", "xx", "en,xx", "../../x", ".git", "en+", "x" * 300, "e\nn"],
        "--seeds": ["a", "-1", "1.5", "9" * 5000, "57,x", "4294967296"],
        "--sparsities": ["", "0", "1", "1.5", "-0.5", "half", "nan", "inf", "9" * 5000],
        "--examples": ["0", "-1", "a", "1.5", "9" * 5000, "nan"],
        "--granularity": ["", "neurons", "WEIGHT"],
        "--scope": ["", "galaxy", "ROW"],
        "--labels": ["", "observed"],
        "--pooled": ["yes"],
        "--layer-by-layer": ["yes"],
        "--lape-rate": ["0.1", "0", "nan"],
        "--lape-quantile": ["0.9", "2", "a"],
    },
    "ablate": {
        "--languages": ["", ",", "xx", "en,xx", "../../x", "en+", "x" * 300, "e\nn"],
        "--sparsities": ["0.99", "half", "nan"],
        "--remove": ["", "all", "KEPT"],
        "--inherited": ["T", "nowhere/x"],
        "--fill": ["", "one"],
        "--draws": ["-1", "a", "1.5", "9" * 5000, "100000"],
        "--examples": ["0", "-1", "a", "9" * 5000, "nan"],
        "--sample": ["0", "-1", "a", "9" * 5000],
        "--split": ["train", ""],
        "--format": ["xml"],
    },
    "dashboard": {"--seeds": ["a", "1.5", "9" * 5000], "--entity": [""], "--project": [""]},
    "completion": {"shell": ["fish", "", "BASH"]},
    "demo": {"--languages": ["xx", "", "en,xx", "../x"]},
}
AFTER: list[list[str]] = [  # at the end of a transfer
    ["model.learning_rate=1"],
    ["--", "a word"],
    ["--", "--trainer.max_epochs", "1"],
    ["--", "--seed_everything=1"],
    ["--", "--output=x"],
    ["--", "--model.ticket=x"],
    ["--", "--data.init_args.language=fr"],
    ["--", "--trainer.max_epoch=1"],
    ["--", "--data.init_args.batch_size=none"],
    ["--list", "--cell=1"],
    ["--cell=1", "--share=1/2"],
]
WHOLE: dict[str, list[str]] = {
    "no such command": ["fitt"],
    "an empty command": [""],
    "a command in capitals": ["FIT"],
    "a path as a command": ["../../bin/sh"],
    "a private module as a command": ["output"],
    "another module as a command": ["commands"],
    "a dotted command": ["os.path"],
    "a command of escapes": ["\x1b[2J"],
    "a command of NUL": ["\0"],
    "a command of 5,000 letters": ["x" * 5000],
    "an option as a command": ["--frobnicate"],
    "a minus as a command": ["-"],
    "two minuses as a command": ["--"],
    "a surrogate as a command": ["\udcff"],
    "ticket alone": ["ticket"],
    "an unknown action on tickets": ["ticket", "burn", "T"],
    "an abbreviated option": ["report", "R", "--split=validation", "--toler=0.1x"],
    "one ticket to combine": ["combine", "union", "T", "--output=out/x.safetensors"],
    "a ticket combined onto itself": ["combine", "union", "T", "U", "--output=T"],
    "no tickets for overlap": ["overlap"],
    "masks kept that are not made": ["overlap", "T", "U", "--inherited-output=out"],
    "2,000 unknown options": ["report", "R", *(f"--x{n}=1" for n in range(2000))],
    "a response file": ["ticket", "info", "@file"],
}


def cases(rng: random.Random) -> Iterator[Case]:
    """Bad command lines without end."""
    listed = list(_listed())
    rng.shuffle(listed)
    yield from listed
    names = [name for name in GOOD if name != "completion"]
    for number in itertools.count(1):
        name = rng.choice(names)
        how = rng.choice([_unknown, _misspelled, _junk])
        what, args = how(name, list(GOOD[name]), rng)
        yield _case(f"{number}: {name}: {what}", args)


def _listed() -> Iterator[Case]:
    for what, args in WHOLE.items():
        yield _case(what, args)
    for name, good in GOOD.items():
        yield _case(f"{name}: an unknown option", [*good, "--frobnicate"])
        yield _case(f"{name}: an unknown option of escapes", [*good, "--\x1b[2J=1"])
        for place in NEEDED.get(name, ()):
            yield _case(f"{name}: without {good[place]}", good[:place] + good[place + 1 :])
        for place in PLACES.get(name, ()):
            for what, path in NOWHERE.items():
                if not _right(name, good[place], what):
                    yield _case(f"{name}: {what} for {good[place]}", _with(good, place, path))
        if name in WRITTEN:
            for what, path in NO_OUTPUT.items():
                yield _case(f"{name}: output to {what}", _with(good, WRITTEN[name], path))
    for name, options in VALUES.items():
        for option, values in options.items():
            for value in values:
                shown = ascii(value[:20]) + (f" ({len(value):,})" if len(value) > 20 else "")
                yield _case(f"{name}: {option}: {shown}", _valued(GOOD[name], option, value))
    for after in AFTER:
        yield _case(f"transfer: {' '.join(after)}", [*GOOD["transfer"], *after])
    yield Case("command lines: a transfer of other settings", _other_transfer)
    yield Case("command lines: a fit of other settings", _other_fit)


def _right(name: str, argument: str, what: str) -> bool:
    """Whether a place is no bad one for an argument, or one that an earlier argument serves."""
    # A configuration of nothing changes nothing, and an empty path is the working directory.
    return (
        (
            name in {"transfer", "fit", "ablate", "prune"}
            and argument.endswith("=C")
            and what in {"an empty file", "a blank"}
        )
        or (name == "overlap, inherited" and what == "an empty name")
        or (name == "report" and what == "an empty name")
    )


def _with(args: list[str], place: int, value: str) -> list[str]:
    """An argument's value replaced."""
    option, equals, _ = args[place].partition("=")
    return [*args[:place], f"{option}={value}" if equals else value, *args[place + 1 :]]


def _valued(args: list[str], option: str, value: str) -> list[str]:
    if not option.startswith("--"):
        return _with(args, 1, value)
    kept = [arg for arg in args if arg.partition("=")[0] != option]
    return [*kept, f"{option}={value}"]


def _case(name: str, args: list[str]) -> Case:
    def make(folder: Path, world: World) -> list[str]:
        _furnish(folder)
        there = the_run(world)
        for letter, path in {"T": there.ticket, "U": there.other_ticket}.items():
            shutil.copy(path, folder / f"{letter}.safetensors")
        if "M" in args:
            ticket = Ticket.load(there.ticket)
            save_file(dict(Mask.from_packed(ticket.masks, ticket.shapes)), folder / "M.safetensors")
        places = {
            "T": folder / "T.safetensors",
            "U": folder / "U.safetensors",
            "M": folder / "M.safetensors",
            "B": world.path / "base",
            "P": there.path / "pairs",
            "R": there.runs,
            "C": there.config,
            "K": there.run / "checkpoints" / "last.ckpt",
        }
        filled = []
        for arg in args:
            option, equals, value = arg.rpartition("=")
            filled.append(f"{option}{equals}{places[value]}" if value in places else arg)
        return filled

    return Case(f"command lines: {name}", make)


def _furnish(folder: Path) -> None:
    """What a user may have in the working directory."""
    (folder / "file").write_text("my notes\n")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    (folder / "thesis.html").write_text("<!DOCTYPE html><title>My thesis</title>\n")
    (folder / "people.csv").write_text("name,age\nAda,36\n")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere/at/all")
    (folder / "device.html").symlink_to("/dev/full")
    for name in ("fifo", "fifo.html"):
        os.mkfifo(folder / name)


def _other_transfer(folder: Path, world: World) -> list[str]:
    there = the_run(world)
    (folder / "out" / "t").mkdir(parents=True)
    (folder / "out" / "t" / "xnli.yaml").write_text("model: {base_model: another}\n")
    return ["transfer", f"--config={there.config}", f"--tickets={there.ticket}", "--languages=en", "--output=out/t"]


def _other_fit(folder: Path, world: World) -> list[str]:
    copy_of_runs(folder, world)
    return fit(folder, world, [("trainer.max_epochs", 1), ("model.learning_rate", 0.25)])


def _unknown(name: str, args: list[str], rng: random.Random) -> tuple[str, list[str]]:
    word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz-_.") for _ in range(rng.randint(3, 12)))
    where = rng.randint(2 if args[0] == "ticket" else 1, len(args))
    option = f"--q{word}={rng.choice(list(NOWHERE.values()))[:50]}"
    return f"unknown --q{word} at {where}", [*args[:where], option, *args[where:]]


def _misspelled(name: str, args: list[str], rng: random.Random) -> tuple[str, list[str]]:
    """An option's name with a letter too many in it, so that it abbreviates no other."""
    places = [place for place, arg in enumerate(args) if arg.startswith("--")]
    if not places:
        return _unknown(name, args, rng)
    place = rng.choice(places)
    option, equals, value = args[place].partition("=")
    at = rng.randint(3, len(option))
    wrong = option[:at] + rng.choice("qxz") + option[at:]
    return f"misspelled {wrong}", [*args[:place], wrong + equals + value, *args[place + 1 :]]


def _junk(name: str, args: list[str], rng: random.Random) -> tuple[str, list[str]]:
    """A path to read with something odd in it."""
    if name not in PLACES:
        return _unknown(name, args, rng)
    place = rng.choice(PLACES[name])
    letters = "ab/.\\ \t\n\r\x00\x07\x1b\x7f\x85\u2028\u202e\ud800\udcff*?[]{}~$`'\"%=;|&<>#!\U0001f600"
    junk = "q" + "".join(rng.choice(letters) for _ in range(rng.randint(1, 40)))
    return f"{junk!a} for {args[place]}", _with(args, place, junk)
