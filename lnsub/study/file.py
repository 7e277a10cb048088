"""The study file: its typed settings, parsed with the same care as a run's."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml
from jsonargparse import ArgumentParser

from lnsub.common.bounds import Count, CountOrZero, Fraction, Nodes, Seed, check_numbers, shown
from lnsub.common.errors import UserError
from lnsub.common.names import plain_name
from lnsub.common.plain_data import UnreadableError, read_text
from lnsub.training.config_files import check_files, load_yaml
from lnsub.training.parse_errors import user_errors

Configs = str | list[str]
Setting = bool | int | float | str | list[Any] | None


@dataclass(frozen=True)
class TaskStudy:
    """One task of a study.

    Attributes:
        config: the configuration of `lnsub fit`, or several, of which later ones override earlier ones.
        languages: the languages, or mixtures such as ``en+fa+fr+zh``, that tickets are found on.
        dataset: the data, a folder or a name on the Hub; null: the configuration's.
        settings: further settings of `lnsub fit`, by dotted name.
    """

    config: Configs
    languages: list[str]
    dataset: str | None = None
    settings: dict[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class TransferStudy:
    """What is fine-tuned under the tickets.

    Attributes:
        sparsities: those of the tickets.
        baselines: see `lnsub transfer --help`.
        languages: the targets; null: the task's languages, without mixtures.
        across_tasks: languages whose tickets are also fine-tuned on the other tasks, in each of these languages.
        zero_shot: also fine-tune each ticket on its own language and evaluate it on all targets.
        test: also evaluate on test splits.
        config: configurations on top of the task's, for transfers alone, by task.
    """

    sparsities: list[Fraction]
    baselines: list[str] = field(default_factory=list)
    languages: list[str] | None = None
    across_tasks: list[str] = field(default_factory=list)
    zero_shot: bool = False
    test: bool = False
    config: dict[str, Configs] = field(default_factory=dict)


@dataclass(frozen=True)
class TicketChoice:
    """Which tickets sentences are embedded under.

    Attributes:
        sparsities: those of the tickets.
        tasks: the tasks that they were found on; null: all.
        own: embed each language under its own ticket, instead of all under each.
    """

    sparsities: list[Fraction]
    tasks: list[str] | None = None
    own: bool = False


@dataclass(frozen=True, kw_only=True)
class SentenceStudy:
    """Parallel sentences; see `lnsub retrieve --help`.

    Attributes:
        pairs: folders, files or data sets of sentence pairs.
        texts: instead, a data set that is parallel row by row.
        column: with ``texts``: the column of sentences.
        pivot: with ``texts``: the language to pair with.
        split: with ``texts``: the split.
        languages: only these; needed with ``texts``.
        max_pairs: maximum pairs of each language.
        tickets: the tickets; null: the dense model alone.
        layers: layers, 0 for the embeddings; null: all.
        pooling: over tokens.
    """

    pairs: list[str] = field(default_factory=list)
    texts: str | None = None
    column: str | None = None
    pivot: str | None = None
    split: str | None = None
    languages: list[str] | None = None
    max_pairs: Count | None = None
    tickets: TicketChoice | None = None
    layers: list[CountOrZero] | None = None
    pooling: Literal["mean", "first"] = "mean"


@dataclass(frozen=True, kw_only=True)
class RetrievalStudy(SentenceStudy):
    """Sentence retrieval; see :class:`SentenceStudy` and `lnsub retrieve --help`.

    Attributes:
        top: a translation is found if it is among the first so many.
        neighbours: nearest neighbours that the margin looks at.
        margin: how scores are computed.
    """

    top: list[Count] = field(default_factory=lambda: [1])
    neighbours: Count = 4
    margin: Literal["ratio", "distance", "absolute"] = "ratio"


@dataclass(frozen=True, kw_only=True)
class SimilarityStudy(SentenceStudy):
    """Similarity of states; see :class:`SentenceStudy` and `lnsub similarity --help`.

    Attributes:
        measures: which.
        resamples: subsets of the sentences for the interval.
        shuffles: orders of the sentences for the null.
    """

    measures: list[str] = field(default_factory=lambda: ["cka", "svcca", "pwcca"])
    resamples: CountOrZero = 100
    shuffles: CountOrZero = 20


@dataclass(frozen=True)
class ReportStudy:
    """The page.

    Attributes:
        page: its name in the study's folder.
        sparsities: those that heat maps and bars show; null: those of the transfer.
        inherited: make the inherited masks, for departures.
        figures: a folder below the study's for each figure as a file; null: none.
        formats: of these files.
    """

    page: str = "report.html"
    sparsities: list[Fraction] | None = None
    inherited: bool = True
    figures: str | None = None
    formats: list[Literal["pdf", "svg", "png"]] = field(default_factory=lambda: ["pdf"])


@dataclass(frozen=True)
class Slurm:
    """The resources of one job on SLURM, and how arrays of them are submitted.

    Attributes:
        partition: null: the cluster's default, as with the next two.
        account: what is charged.
        qos: quality of service.
        nodes: nodes of a training job.
        tasks_per_node: processes on each, one a GPU; the configuration's batch is divided among them all.
        gpus_per_node: null: as many as processes.
        cpus_per_task: CPUs of a process.
        memory: of a node, as SLURM writes it (``32G``); null: the default.
        time: limit of one job; a run that takes longer saves, and is queued again.
        warning: seconds before the end of ``time`` at which it saves.
        at_once: most jobs of an array that run at once; null: no limit.
        cpu_partition: partition of jobs that need no GPU; null: ``partition``.
        options: more options of sbatch, such as ``--constraint=a100``.
        setup: a shell script that jobs source first where it exists, such as a virtual environment's ``activate``.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    nodes: Nodes = 1
    tasks_per_node: Count = 1
    gpus_per_node: CountOrZero | None = None
    cpus_per_task: Count = 4
    memory: str | None = None
    time: str = "08:00:00"
    warning: Count = 180
    at_once: Count | None = None
    cpu_partition: str | None = None
    options: list[str] = field(default_factory=list)
    setup: str = ".venv/bin/activate"


@dataclass(frozen=True)
class Study:
    """A study: what one file says.

    Paths that start with a dot are relative to the study file, others to the working directory; those of
    configurations are always relative to the study file.

    Attributes:
        name: of the study.
        tasks: the tasks by name.
        base_model: folder or name on the Hub of the base model; null: the configurations'.
        seeds: each ticket is found once for each.
        output: the study's folder, a tree of runs; null: ``runs/<name>``.
        settings: settings of `lnsub fit` for all tasks, by dotted name.
        transfer: what is fine-tuned under the tickets; null: nothing.
        retrieval: sentence retrieval; null: none.
        similarity: similarity of states; null: none.
        report: the page.
        slurm: resources on SLURM.
    """

    name: str
    tasks: dict[str, TaskStudy]
    base_model: str | None = None
    seeds: list[Seed] = field(default_factory=lambda: [57])
    output: str | None = None
    settings: dict[str, Setting] = field(default_factory=dict)
    transfer: TransferStudy | None = None
    retrieval: RetrievalStudy | None = None
    similarity: SimilarityStudy | None = None
    report: ReportStudy = field(default_factory=ReportStudy)
    slurm: Slurm = field(default_factory=Slurm)


def read_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Parses a study file.

    Args:
        path: the file.
        overrides: settings that override its own: ``--base_model=...``, ``--slurm.time=02:00:00``.

    Returns:
        The study, its paths as the working directory sees them and ``output`` filled in.

    Raises:
        UserError: the file cannot be read; a setting is unknown, or its value is invalid.
    """
    if not path.is_file():
        raise UserError(f"There is no study file {path}.")
    parser = study_parser()
    check_files([f"--config={path}", *overrides])
    with user_errors(parser, _setting_names):
        # As text, so that it is read as files are, and the overrides' values as on a command line.
        text = yaml.safe_dump(_sections(path), sort_keys=False, allow_unicode=True)
        parsed = parser.parse_args([f"--config={text}", *overrides])
        del parsed["config"]
        study = Study(**vars(parser.instantiate_classes(parsed)))
    _check(study)
    return _placed(study, path.parent)


@cache
def study_parser() -> ArgumentParser:
    """The parser of study files."""
    parser = ArgumentParser(prog="lnsub study plan", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="the study file")
    parser.add_class_arguments(Study, fail_untyped=True, sub_configs=False)
    return parser


def _sections(path: Path) -> dict[str, Any]:
    """Reads the file's sections, ``report: page.html`` as the section that it stands for.

    Raises:
        UserError: it is no YAML, or a section is something else than settings by name.
    """
    try:
        found = load_yaml(read_text(path))
    except (UnreadableError, yaml.YAMLError) as error:
        raise UserError(f"The study file {path} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(found, dict):
        raise UserError(f"The study file {path} has no settings by name, such as `name: my-study`.")
    if isinstance(found.get("report"), str):
        found["report"] = {"page": found["report"]}
    sections = {name: found.get(name) for name in ("tasks", "transfer", "retrieval", "similarity", "report", "slurm")}
    if isinstance(sections["tasks"], dict):
        sections |= {f"tasks.{name}": task for name, task in sections["tasks"].items()}
    for name, section in sections.items():
        if section is not None and not isinstance(section, dict):
            raise UserError(f"{name} is {shown(section)}: it must have settings by name.")
    return found


def _setting_names() -> list[str]:
    kinds = (TaskStudy, TransferStudy, TicketChoice, RetrievalStudy, SimilarityStudy, ReportStudy, Slurm, Study)
    return sorted({setting.name for kind in kinds for setting in fields(kind)})


def _check(study: Study) -> None:
    """Checks what types do not say; raises UserError."""
    plain_name("study", study.name)
    _check_bounds(study, "")
    if not study.tasks:
        raise UserError("tasks is empty: name at least one, such as `wikiann: {config: ..., languages: [fr, ur]}`.")
    for name, task in study.tasks.items():
        if not task.languages:
            raise UserError(f"tasks.{name}.languages is empty: name at least one language.")
        for language in task.languages:
            plain_name("language", language)
        _distinct(f"tasks.{name}.languages", task.languages)
    if not study.seeds:
        raise UserError("seeds is empty: name at least one, such as [57].")
    _distinct("seeds", study.seeds)
    for where, chosen in (("retrieval", study.retrieval), ("similarity", study.similarity)):
        if chosen is None:
            continue
        if bool(chosen.pairs) == bool(chosen.texts):
            raise UserError(f"{where} needs either pairs or texts.")
        for name in (chosen.tickets.tasks or []) if chosen.tickets else []:
            _known_task(study, f"{where}.tickets.tasks", name)
    for name in study.transfer.config if study.transfer else {}:
        _known_task(study, "transfer.config", name)
    if study.transfer and study.transfer.across_tasks and len(study.tasks) < 2:
        raise UserError("transfer.across_tasks needs two tasks at least, and the study has one.")
    if Path(study.report.page).name != study.report.page:
        raise UserError(f"report.page is {study.report.page}: it must be a file's name in the study's folder.")


def _known_task(study: Study, where: str, name: str) -> None:
    if name not in study.tasks:
        raise UserError(f"{where} names {name[:40]}, which is none of the study's tasks: {', '.join(study.tasks)}.")


def _distinct(where: str, values: Sequence[Any]) -> None:
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise UserError(f"{where} has {twice} twice.")


def _check_bounds(settings: Any, prefix: str) -> None:
    check_numbers(get_type_hints(type(settings)), vars(settings), prefix=prefix)
    for name, value in vars(settings).items():
        if is_dataclass(value):
            _check_bounds(value, f"{prefix}{name}.")
        for key, inner in value.items() if isinstance(value, dict) else ():
            if is_dataclass(inner):
                _check_bounds(inner, f"{prefix}{name}.{key}.")


def _placed(study: Study, home: Path) -> Study:
    """The study with paths as the working directory sees them."""

    def at(name: str) -> str:
        return shown_path(home / name) if name.startswith(".") else name

    def files(names: Configs) -> list[str]:
        return [shown_path(home / name) for name in ([names] if isinstance(names, str) else names)]

    def sentences(chosen: Any) -> Any:
        if chosen is None:
            return None
        texts = chosen.texts and at(chosen.texts)
        return type(chosen)(**{**vars(chosen), "pairs": [at(name) for name in chosen.pairs], "texts": texts})

    tasks = {
        name: TaskStudy(files(task.config), task.languages, task.dataset and at(task.dataset), task.settings)
        for name, task in study.tasks.items()
    }
    transfer = study.transfer
    if transfer is not None:
        layers: dict[str, Configs] = {name: files(config) for name, config in transfer.config.items()}
        transfer = TransferStudy(**{**vars(transfer), "config": layers})
    return Study(
        **{
            **vars(study),
            "tasks": tasks,
            "base_model": study.base_model and at(study.base_model),
            "output": study.output or f"runs/{study.name}",
            "transfer": transfer,
            "retrieval": sentences(study.retrieval),
            "similarity": sentences(study.similarity),
        }
    )


def shown_path(path: Path) -> str:
    """A path as one would type it: relative to the working directory where it is below it, else absolute."""
    whole = path.resolve()
    here = Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)
