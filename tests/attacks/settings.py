"""Bad settings: every option of the training commands with values that it cannot have, and files that are no settings.

The options and their types are read from what a configuration builds, so that a new one is attacked by itself. A value
is listed only where no meaning of the setting makes it a right one.
"""

import inspect
import itertools
import json
import random
import types
import typing
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import yaml

from tests.attacks.cases import Case, copy_of_runs, fifo, fit, the_run
from tests.support.trials import World

COMMANDS = ("fit", "validate", "test", "predict", "transfer")
Make = Callable[[Path, World], list[str]]

FREE = {
    "trainer.gradient_clip_val": {"inf"},
    "rank_timeout": {"inf"},
    "trainer.max_epochs": {"more than 64 bits"},
    "trainer.max_steps": {"more than 64 bits"},
}
"""Numbers that are odd, and mean something all the same: no clipping, no end of waiting or of training."""

NO_ZERO = [
    *(f"trainer.{name}" for name in ("accumulate_grad_batches", "max_steps", "max_epochs", "devices", "num_nodes")),
    *(f"trainer.{name}" for name in ("limit_train_batches", "val_check_interval", "check_val_every_n_epoch")),
    *("model.learning_rate", "model.adam_epsilon"),
    *("checkpoint_every_minutes", "checkpoint_every_n_steps", "rank_timeout"),
    *(f"data.init_args.{name}" for name in ("batch_size", "max_length", "pad_to_multiple_of", "group_window")),
    *(f"data.init_args.{name}" for name in ("tokens_per_batch", "eval_tokens_per_batch")),
    *(f"data.init_args.{name}" for name in ("max_train_examples", "max_eval_examples")),
    *("trainer.callbacks.rewind_step", "trainer.callbacks.score_examples"),
]
"""Numbers that must not be 0."""

# Of each: whether it is for a whole number alone. Booleans are numbers to Python, and never to a person.
NUMBERS: dict[str, tuple[Any, bool]] = {
    "a word": ("many", False),
    "nan": (float("nan"), False),
    "inf": (float("inf"), False),
    "-inf": (float("-inf"), False),
    "negative": (-5, False),
    "a list": ([1, 2], False),
    "an object": ({"a": 1}, False),
    "a blank": (" ", False),
    "more than 64 bits": (10**30, True),
    "5,000 digits": (int("9" * 4000) * 10**1000, True),
    "a half": (2.5, True),
    "a date": ("2001-01-01", False),
}
TEXTS: dict[str, Any] = {"a list": [1, 2], "an object": {"a": 1}}
BY_HAND: dict[str, list[Any]] = {
    "seed_everything": [2**32, 2**64, True],
    "output": [""],
    "model.learning_rate": [1e30, 1e400, True],
    "model.adam_epsilon": [-1e-8],
    "model.weight_decay": [-0.1, 1e30],
    "model.warmup": [1, 1.5, -0.1],
    "model.base_model": ["", "./nowhere", "/dev/null", "/", "a/b/c/d", "\x00", "-", "x" * 5000],
    "model.ticket": ["", "nowhere.safetensors", "/dev/null", "/", "\x00"],
    "model.compile": ["fastest"],
    "model.step": ["graph"],
    "data.init_args.language": [
        False,
        "",
        "../../x",
        "/tmp/x",
        ".git",
        "en+",
        "en++fr",
        "e\nn",
        "x" * 300,
        "\x1b[2J",
        7,
    ],
    "data.init_args.dataset": ["", "./nowhere", "/dev/null", "/", "a/b/c", "\x00", "x" * 5000],
    "data.init_args.max_length": [1, 7, 10**9, 65],
    "data.init_args.batch_size": [10**9 * 10**9],
    "data.init_args.pad_to_multiple_of": [10_000_000, 1_000_003],
    "data.init_args.num_workers": [1_000_000, "two"],
    "trainer.accumulate_grad_batches": [1e9, "{}"],
    "trainer.limit_train_batches": [1.5, -0.5, 0.001],
    "trainer.limit_val_batches": [1.5, -1],
    "trainer.overfit_batches": [1, 0.5, -1, 1.5],
    "trainer.val_check_interval": [10**9, 1.5, -1],
    "trainer.check_val_every_n_epoch": [0, -1],
    "trainer.num_nodes": [0, -1, 10**9],
    "trainer.devices": [0, -2, "cuda:99", 10**9, [], [0, 0], "1,1"],
    "trainer.accelerator": ["quantum", "cuda", "tpu", "mps", "hpu", ""],
    "trainer.strategy": ["fsdp", "ddp_spawn", "ddp_notebook", "deepspeed", "dp", "quantum", ""],
    "trainer.precision": ["bf15", 8, "64-maybe", "transformer-engine", ""],
    "trainer.gradient_clip_algorithm": ["size", ""],
    "trainer.gradient_clip_val": [-1.0],
    "trainer.profiler": ["nobody"],
    "trainer.logger": ["a logger", [1]],
    "trainer.plugins": ["a plugin"],
    "trainer.callbacks.sparsities": [
        *(0.5, [], [0.3, 0.3000001], [0.6, 0.3], [0.3, 0.3], [1.0], [1.5], [-0.1], [0.0], [float("nan")], ["half"]),
        *([[0.3]], {"a": 0.3}, [None], [True], [1e-12], [0.3, 1e400], "0.3,0.6", [0.9999999999]),
    ],
    "trainer.callbacks.rate": [0, 1, 1.5, -0.1, float("nan"), 0.5],
    "trainer.callbacks.rounds": [0, -1, 10**9, 10**30],
    "trainer.callbacks.score": ["magn", "", None, 7],
    "trainer.callbacks.score_examples": [64],  # the score reads none
    "trainer.callbacks.fisher_labels": ["observed", "guessed", ""],
    "trainer.callbacks.scope": ["galaxy", "", None],
    "trainer.callbacks.rewind": ["step", "never", None],
    "trainer.callbacks.rewind_step": [3, 0, -1],
    "trainer.callbacks.schedule": ["geometric", "cubic", None],
    "trainer.callbacks.keep_checkpoint": ["maybe", None],
    "wandb": ["a project", 7, [1], {"projekt": "x"}, {"project": [1]}],
}

# Settings that belong together, or that no single value makes wrong.
GROUPS: dict[str, dict[str, Any]] = {
    "two IMPCallbacks": {"trainer.callbacks": [{"class_path": "lnsub.IMPCallback"}] * 2},
    "a callback whose monitor is not there": {
        "trainer.callbacks": [
            {"class_path": "lnsub.IMPCallback", "init_args": {"sparsities": [0.3]}},
            {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {"monitor": "val_happiness"}},
        ]
    },
    "a callback that is no callback": {"trainer.callbacks": [{"class_path": "lnsub.XNLI"}]},
    "a callback that is a module": {"trainer.callbacks": [{"class_path": "json"}]},
    "a callback that is a function": {
        "trainer.callbacks": [{"class_path": "os.system", "init_args": {"command": "touch pwned"}}]
    },
    "a callback with an unknown argument": {
        "trainer.callbacks": [{"class_path": "lnsub.IMPCallback", "init_args": {"sparsitys": [0.3]}}]
    },
    "a callback of a module here": {"trainer.callbacks": [{"class_path": "evil.Callback"}]},
    "a logger of a module here": {"trainer.logger": {"class_path": "evil.Logger"}},
    "a strategy of a module here": {"trainer.strategy": {"class_path": "evil.Strategy"}},
    "data of a module here": {"data": {"class_path": "evil.Data"}},
    "data of another class": {"data": {"class_path": "lnsub.tickets.ticket.Ticket"}},
    "data of an abstract class": {"data": {"class_path": "lnsub.tasks.task.LanguageDataModule"}},
    "data of an unknown class": {"data": "lnsub.Chess"},
    "data of a relative class": {"data": "..XNLI"},
    "data of an empty class": {"data": ""},
    "no data": {"data": None},
    "steps and epochs without end": {"trainer.max_epochs": -1, "trainer.max_steps": -1},
    "fewer steps at most than at least": {"trainer.max_steps": 2, "trainer.min_steps": 5, "trainer.max_epochs": -1},
    "IMP under a ticket": {"model.ticket": "any.safetensors"},
    "a rewind that no round reaches": {"trainer.callbacks.rewind": "step", "trainer.callbacks.rewind_step": 10**6},
    "no validation": {"trainer.limit_val_batches": 0},
    "more length than positions": {"data.init_args.max_length": 100_000},
    "a root of its own": {"trainer.default_root_dir": "elsewhere"},
}

EVIL = "from pathlib import Path\nPath('pwned').touch()\nclass Data: ...\nCallback = Logger = Strategy = Data\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)
FILES: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"- 1\n- 2\n",
    "a word": b"hello\n",
    "a number": b"7\n",
    "null": b"null\n",
    "unclosed": b"model: [unclosed\n",
    "a tab": b"model:\n\tbase_model: x\n",
    "binary": bytes(range(256)),
    "zeros": bytes(1000),
    "Latin-1": "model: {base_model: \xe9t\xe9}\n".encode("latin-1"),
    "UTF-16": "model: {base_model: x}\n".encode("utf-16"),
    "a bomb": BOMB.encode(),
    "part of itself": b"model: &a {base_model: *a}\n",
    "an alias of nothing": b"model: *a\n",
    "100,000 levels": b"model: " + b"[" * 100_000,
    "100,000 levels of objects": b"model: " + b"{a: " * 100_000 + b"}" * 100_000,
    "100,000 levels of dashes": b"- " * 100_000 + b"a\n",
    "many merged aliases": b"b: &b {a: 1}\n" + b"".join(b"c%d: {<<: *b, d: *b}\n" % n for n in range(100_000)),
    "3 MB of a name": b"model: {base_model: " + b"x" * 3_000_000 + b"}\n",
    "200,000 keys": b"".join(b"k%d: 1\n" % n for n in range(200_000)),
    "5,000 digits": b"seed_everything: " + b"9" * 5000 + b"\n",
    "hexadecimal digits": b"seed_everything: 0x" + b"f" * 100_000 + b"\n",
    "sexagesimal digits": b"seed_everything: " + b"1:59" * 3000 + b"\n",
    "Python code": b"model: !!python/object/apply:os.system [touch pwned]\n",
    "a Python name": b"model: {base_model: !!python/name:os.system }\n",
    "a Python object": b"trainer: !!python/object:lnsub.cli.main.main {}\n",
    "an unknown tag": b"model: !model {}\n",
    "a wrong tag": b"seed_everything: !!timestamp later\n",
    "a binary tag": b"model: {base_model: !!binary aGVsbG8=}\n",
    "a set": b"model: !!set {base_model}\n",
    "an impossible date": b"model: 2001-99-99\n",
    "dates as keys": b"model: {2001-01-01: 1}\n",
    "numbers as keys": b"1: 2\n",
    "null as a key": b"~: 1\n",
    "a list as a key": b"? [a, b]\n: 1\n",
    "several documents": b"seed_everything: 1\n---\nseed_everything: 2\n",
    "control characters": b"model: {base_model: \x07\x00}\n",
    "escapes in a key": b'"\\e[2Jmodel": 1\n',
    "escapes in a value": b'seed_everything: "\\e[2Jmany"\n',
    "half a surrogate": b'model: {base_model: "\\ud800"}\n',
    "a key twice": b"seed_everything: 1\nseed_everything: 2\n",
    "a key twice, deeper": b"model: {learning_rate: 1e-3, learning_rate: 1e-4}\n",
    "no as a language": b"data: {class_path: lnsub.XNLI, init_args: {language: no}}\n",
    "a list for arguments": b"data: {class_path: lnsub.XNLI, init_args: [1, 2]}\n",
    "a list for a section": b"model: [1, 2]\n",
    "a word for a section": b"trainer: quick\n",
    "an unknown section": b"modle: {learning_rate: 1}\n",
    "a dotted section": b"model.learning_rat: 1\n",
    "an exponent without a dot as text": b'model: {learning_rate: "1 e-3"}\n',
    "yes as a number": b"data: {class_path: lnsub.XNLI, init_args: {batch_size: yes}}\n",
    "an octal number as a date": b"trainer: {max_epochs: 2001-01-01}\n",
    "JSON that ends early": b'{"model": {"base_model": "x"',
    "a shell script": b"#!/bin/sh\ntouch pwned\n",
}


def cases(rng: random.Random) -> Iterator[Case]:
    """Bad settings without end: what is listed, in an order that is drawn, then drawn ones."""
    options = options_of_a_run()
    bad = [(name, what, value) for name, hint in options.items() for what, value in _wrong(name, *hint)]
    bad += [(name, "0", 0) for name in NO_ZERO]
    bad += [(name, _shown(value), value) for name, values in BY_HAND.items() for value in values]
    # Callbacks are given by dotted options alone.
    listed = [
        *(
            Case(f"settings: {name}: {what}", _setting({name: value}, in_file=_needs_file(name, what, options)))
            for name, what, value in bad
        ),
        *(Case(f"settings: {what}", _setting(changes)) for what, changes in GROUPS.items()),
        *(Case(f"settings: a file of {what}", _file(content)) for what, content in FILES.items()),
        *(Case(f"settings: {what}", make) for what, make in _places()),
    ]
    unique = list({case.name: case for case in listed}.values())
    rng.shuffle(unique)
    yield from unique
    types_alone = [one for one in bad if one[1] in {*NUMBERS, *TEXTS} and one[1] not in {"negative", "a half"}]
    for number in itertools.count(1):
        command = rng.choice(COMMANDS)
        if rng.random() < 0.3:
            name = rng.choice(list(options))
            what, wrong = "misspelled", {_misspelled(name, options, rng): 1}
        else:
            name, what, value = rng.choice(bad if command == "fit" else types_alone)
            wrong = {name: value}
        if command != "fit" and name.startswith("trainer.callbacks."):  # which only that command has
            continue
        harmless = {"seed_everything": rng.randrange(1000), "trainer.max_epochs": rng.choice([1, 2, 3])}
        in_file = rng.random() < 0.5 or _needs_file(name, what, options)
        where = "in a file" if in_file else "as an option"
        make = _setting({**harmless, **wrong}, command, in_file=in_file)
        yield Case(f"settings: {number}: {command}, {name}: {what}, {where}", make)


def options_of_a_run() -> dict[str, tuple[Any, Any]]:
    """The settings of a run by dotted name, each with its type and its default."""
    from lightning.pytorch import Trainer

    from lnsub.training.config import RunConfig, run_parser
    from lnsub.training.imp import IMPCallback
    from lnsub.training.module import SubnetModule

    found: dict[str, tuple[Any, Any]] = {}
    from lnsub.tasks import data_modules

    owners: dict[str, list[Any]] = {
        "trainer.": [Trainer],
        "model.": [SubnetModule],
        "trainer.callbacks.": [IMPCallback],
        "data.init_args.": list(data_modules().values()),
    }
    for prefix, classes in owners.items():
        for one in itertools.chain.from_iterable(cls.__mro__ for cls in classes):
            if "__init__" not in vars(one) or not one.__module__.startswith(("lnsub", "lightning")):
                continue
            hints = typing.get_type_hints(one.__init__)
            for name, parameter in inspect.signature(one.__init__).parameters.items():
                if name in hints and parameter.kind not in {parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL}:
                    found.setdefault(prefix + name, (hints[name], parameter.default))
    hints = typing.get_type_hints(RunConfig)
    defaults = run_parser("fit").get_defaults()
    own = ("seed_everything", "output", "checkpoint_every_minutes", "checkpoint_every_n_steps", "rank_timeout")
    for name in own:
        found[name] = (hints[name], defaults[name])
    taken = {"data.init_args.tokenizer", "data.init_args.seed"}
    # Of arguments that are no options, such as the task of a module.
    taken |= {name for name in found if not name.startswith(("data.", "trainer.callbacks.")) and name not in defaults}
    # Of no task but one: an option of another is unknown, which is no attack on its values.
    theirs = {"data.init_args.snapshot", "data.init_args.mlm_probability", "data.init_args.treebank"}
    return {name: hint for name, hint in found.items() if name not in taken | theirs}


def _needs_file(name: str, what: str, options: dict[str, tuple[Any, Any]]) -> bool:
    """Whether a value is a wrong one in a file alone: as an option, it is a text like any other."""
    return what in {*TEXTS, "null"} and name in options and str in _members(options[name][0])


def _members(hint: Any) -> set[Any]:
    """The types that a hint allows."""
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        return set().union(*(_members(inner) for inner in typing.get_args(hint)))
    if typing.get_origin(hint) is typing.Annotated:
        return _members(typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        return {Literal, *map(type, typing.get_args(hint))}
    if typing.get_origin(hint) is not None:
        return {typing.get_origin(hint)}
    # jsonargparse's restricted numbers are sub-classes of plain ones.
    plain = {base for base in (bool, int, float, str) if isinstance(hint, type) and issubclass(hint, base)}
    return plain - {int} if bool in plain else plain or {hint}


def _wrong(name: str, hint: Any, default: Any) -> Iterator[tuple[str, Any]]:
    """Values that an option cannot have by its type."""
    members = _members(hint)
    nullable = type(None) in members or default is None
    if members & {int, float} and not members & {str, Literal}:
        for what, (value, whole) in NUMBERS.items():
            if what in FREE.get(name, ()) or (whole and float in members):
                continue
            if list in members and what == "a list":
                continue
            yield what, value
        if not nullable:
            yield "null", None
    elif members <= {bool, type(None)}:
        yield "a word", "maybe"
        yield "a number", 7
        yield "a list", [1]
        if not nullable:
            yield "null", None
    elif members <= {str, type(None)} or (Literal in members and members <= {Literal, str, int, type(None)}):
        yield from TEXTS.items()
        if Literal in members:
            yield "a misspelled word", "magnitud"
        if not nullable:
            yield "null", None


def _setting(changes: dict[str, Any], command: str = "fit", *, in_file: bool = False) -> Make:
    """A run with some settings changed, by options or in a file that is given last."""

    def make(folder: Path, world: World) -> list[str]:
        (folder / "evil.py").write_text(EVIL)
        callbacks = {name: value for name, value in changes.items() if name.startswith("trainer.callbacks")}
        by_option = changes if not in_file else callbacks
        if command == "transfer":
            args = _transfer(folder, world)
            given = [f"--config={_written(folder, changes)}"] if in_file else []
            settings = [] if in_file else [f"--{name}={_text(value)}" for name, value in changes.items()]
            return [*args, *given, "--", *settings]
        args = fit(folder, world, {name: _text(value) for name, value in by_option.items()}.items(), command)
        rest = {name: value for name, value in changes.items() if name not in by_option}
        if rest:
            # An option of the same name would come later, and win.
            args = [arg for arg in args if arg.partition("=")[0].removeprefix("--") not in rest]
            args = [args[0], *args[1:], f"--config={_written(folder, rest)}"]
        return args

    return make


def _transfer(folder: Path, world: World) -> list[str]:
    there = the_run(world)
    return [
        *("transfer", f"--config={there.config}", f"--tickets={there.ticket}", "--languages=en"),
        f"--output={folder / 'out'}",
    ]


def _written(folder: Path, changes: dict[str, Any]) -> Path:
    nested: dict[str, Any] = {}
    for name, value in changes.items():
        *parents, last = name.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    if isinstance(nested.get("data"), dict) and "init_args" in nested["data"]:
        nested["data"].setdefault("class_path", "lnsub.XNLI")
    path = folder / "changes.yaml"
    # safe_dump() refuses numbers of more than 4,300 digits, which a file may have all the same.
    path.write_text(_dumped(nested), encoding="utf-8", errors="surrogatepass")
    return path


def _dumped(value: Any) -> str:
    try:
        return yaml.safe_dump(value, sort_keys=False)
    except ValueError:
        return _text(value)


def _text(value: Any) -> str:
    """A value as an option has it: JSON, which is YAML, but for text."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return {"nan": ".nan", "inf": ".inf", "-inf": "-.inf"}.get(str(value), str(value))
    if isinstance(value, int) and value.bit_length() > 10_000:
        return "9" * 5000
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(json.dumps(x) if isinstance(x, str) else _text(x) for x in value) + "]"
    return json.dumps(value)


def _file(content: bytes) -> Make:
    """A run whose last file of settings has some content."""

    def make(folder: Path, world: World) -> list[str]:
        (folder / "bad.yaml").write_bytes(content)
        return _with_file(folder, world, folder / "bad.yaml", whole=len(content.strip()) > 4)

    return make


def _with_file(folder: Path, world: World, path: Path, *, whole: bool = True) -> list[str]:
    args = fit(folder, world)
    # A file of nothing changes nothing: then it is the only one.
    return [*args, f"--config={path}"] if whole else ["fit", f"--config={path}", f"--output={folder / 'out'}"]


def _places() -> Iterator[tuple[str, Make]]:
    """Files of settings that are none."""

    def at(place: str) -> Make:
        return lambda folder, world: _with_file(folder, world, Path(place))

    for place in (
        "/dev/null/x",
        "/dev/full/",
        "/proc/self/mem",
        "nowhere.yaml",
        "/",
        ".",
        "~/nowhere.yaml",
        "x" * 5000,
    ):
        yield f"a file at {place[:30]}", at(place)
    for place in ("/dev/zero", "/dev/tty", "/dev/urandom"):
        yield f"a device as a file: {place}", at(place)
    yield "a FIFO as a file", lambda folder, world: _with_file(folder, world, fifo(folder / "fifo"))
    yield "a FIFO as the settings of a run", _run_with(lambda run: fifo(run / "config.yaml"))
    for what, content in FILES.items():
        if what not in {"a key twice, deeper"}:
            yield (
                f"a run with settings of {what}",
                _run_with(partial(_rewrite, content=content)),
            )
    yield "a file that is not to be read", lambda folder, world: _with_file(folder, world, _looping(folder))
    yield "files that name each other twice", _twice
    yield "no settings at all", lambda folder, world: ["fit"]
    yield "an option without a name", lambda folder, world: [*fit(folder, world), "--=5"]
    yield "an option of dots", lambda folder, world: [*fit(folder, world), "--...=5"]
    yield "an option into a number", lambda folder, world: [*fit(folder, world), "--model.learning_rate.x=5"]
    yield "an option without a value", lambda folder, world: [*fit(folder, world), "--model.learning_rate"]
    yield "a bare word", lambda folder, world: [*fit(folder, world), "model.learning_rate=5"]
    for command in ("validate", "test", "predict"):
        for what, place in {
            "nothing": "nowhere.ckpt",
            "a folder": "/",
            "a device": "/dev/null",
            "a name": "best",
        }.items():
            changes = {"ckpt_path": place}
            yield f"{command} of a checkpoint that is {what}", _setting(changes, command)
        yield f"{command} of a FIFO as a checkpoint", _checkpoint(command, lambda path: fifo(path))
        yield f"{command} of text as a checkpoint", _checkpoint(command, lambda path: path.write_bytes(b"weights\n"))
        yield f"{command} of an empty checkpoint", _checkpoint(command, lambda path: path.write_bytes(b""))


def _checkpoint(command: str, write: Callable[[Path], object]) -> Make:
    def make(folder: Path, world: World) -> list[str]:
        write(folder / "bad.ckpt")
        return fit(folder, world, [("ckpt_path", folder / "bad.ckpt")], command)

    return make


def _run_with(change: Callable[[Path], object]) -> Make:
    """A run that is to be resumed, after a change in its folder."""

    def make(folder: Path, world: World) -> list[str]:
        change(copy_of_runs(folder, world))
        return fit(folder, world, [("trainer.max_epochs", 1)])

    return make


def _rewrite(run: Path, content: bytes) -> None:
    (run / "config.yaml").write_bytes(content)


def _looping(folder: Path) -> Path:
    (folder / "loop.yaml").symlink_to("loop.yaml")
    return folder / "loop.yaml"


def _twice(folder: Path, world: World) -> list[str]:
    (folder / "one.yaml").write_text("config: two.yaml\n")
    (folder / "two.yaml").write_text("config: one.yaml\n")
    return [*fit(folder, world), "--config=one.yaml", "--config=two.yaml"]


def _misspelled(name: str, options: dict[str, Any], rng: random.Random) -> str:
    """A name with one letter of its last part gone, which is no other option's."""
    head, dot, last = name.rpartition(".")
    while True:
        place = rng.randrange(len(last))
        wrong = head + dot + (last[:place] + last[place + 1 :] or "x")
        if wrong not in options and not wrong.endswith("."):
            return wrong


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:30]}... ({len(text):,})"
