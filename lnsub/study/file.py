"""The study file: parsed into typed settings, with the same care as a run's."""

import os
import re
from collections.abc import Sequence
from dataclasses import Field, fields, is_dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentParser

from lnsub.common.bounds import check_numbers, shown
from lnsub.common.errors import UserError
from lnsub.common.names import plain_name
from lnsub.common.plain_data import UnreadableError, read_text
from lnsub.study.settings import (
    ConditionStudy,
    Configs,
    ReportStudy,
    RetrievalStudy,
    SimilarityStudy,
    Slurm,
    Study,
    TaskStudy,
    TicketChoice,
    TransferStudy,
)
from lnsub.training.config_files import check_files, load_yaml
from lnsub.training.parse_errors import user_errors

_OWN = {"config", "seed_everything", "output", "data.language", "data.init_args.language", "model.ticket"}
_APART = {"head_seed", "order_seed", "subset_seed", "data.init_args.train_sample", "data.init_args.labels"}
"""Settings of `lnsub fit` that each job has its own value of; the latter, that tell its runs apart."""


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
        raise UserError(f"There is no study file {path}{': it is no regular file' if path.exists() else ''}.")
    sections = _sections(path)
    try:
        study = _parsed(sections, overrides)
        _check(study)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return _placed(study, path.parent)


def _parsed(sections: dict[str, Any], overrides: Sequence[str]) -> Study:
    parser = study_parser()
    check_files(overrides)
    with user_errors(parser, _setting_names, listed="docs/study-file.md"):
        # As text, so that it is read as files are, and the overrides' values as on a command line.
        sections, others = _overridden(_with_sections(sections), overrides)
        text = yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)
        parsed = parser.parse_args([f"--config={text}", *others])
        del parsed["config"]
        return Study(**vars(parser.instantiate_classes(parsed)))


@cache
def study_parser() -> ArgumentParser:
    """The parser of study files."""
    parser = ArgumentParser(prog="lnsub study plan", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="the study file")
    parser.add_class_arguments(Study, fail_untyped=True, sub_configs=False)
    return parser


def _sections(path: Path) -> dict[str, Any]:
    """Reads the file; raises UserError if it is no YAML, or has no settings by name."""
    try:
        found = load_yaml(read_text(path))
    except (UnreadableError, yaml.YAMLError) as error:
        raise UserError(f"The study file {path} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(found, dict):
        raise UserError(f"The study file {path} has no settings by name, such as `name: my-study`.")
    return found


def _with_sections(found: dict[str, Any]) -> dict[str, Any]:
    """The file's sections, ``report: page.html`` as the section that it stands for.

    Raises:
        UserError: a section is something else than settings by name.
    """
    if isinstance(found.get("report"), str):
        found = {**found, "report": {"page": found["report"]}}
    sections = {name: found.get(name) for name in ("tasks", "transfer", "retrieval", "similarity", "report", "slurm")}
    sections = {name: section for name, section in sections.items() if section is not None}
    if isinstance(tasks := sections.get("tasks"), dict):
        sections |= {f"tasks.{name}": task for name, task in tasks.items()}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise UserError(f"{name} is {shown(section)}: it must have settings by name.")
    for where, owner in {"": found, **{f"tasks.{name}.": task for name, task in (tasks or {}).items()}}.items():
        for name, value in (owner.get("settings") or {}).items() if isinstance(owner.get("settings"), dict) else ():
            if isinstance(value, dict):
                raise UserError(
                    f"{where}settings.{name} has settings of its own: write `{name}.{next(iter(value), '')}: ...`."
                )
    return found


def _overridden(sections: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Overrides settings of `lnsub fit`, whose own names have dots, which the parser would take apart.

    Returns:
        The sections, and the other overrides.
    """
    others = []
    for override in overrides:
        name, _, value = override.partition("=")
        found = re.fullmatch(r"--((?:tasks\.[^.]+\.)?settings)\.(.+)", name)
        if found is None:
            others.append(override)
            continue
        place = sections
        for part in found[1].split("."):
            place[part] = place = dict(place.get(part) or {})
        place[found[2]] = load_yaml(value)
    return sections, others


def _setting_names() -> list[str]:
    kinds = (
        ConditionStudy,
        TaskStudy,
        TransferStudy,
        TicketChoice,
        RetrievalStudy,
        SimilarityStudy,
        ReportStudy,
        Slurm,
        Study,
    )
    return sorted({setting.name for kind in kinds for setting in fields(kind)})


def _check(study: Study) -> None:
    """Checks what types do not say; raises UserError."""
    plain_name("study", study.name)
    _check_bounds(study, "")
    if not study.tasks:
        raise UserError("tasks is empty: name at least one, such as `wikiann: {config: ..., languages: [fr, ur]}`.")
    for name, task in study.tasks.items():
        for language in task.languages:
            plain_name("language", language)
        if study.transfer and not study.transfer.languages and all("+" in language for language in task.languages):
            raise UserError(f"tasks.{name}.languages has mixtures alone: name targets in transfer.languages.")
    _check_conditions(study)
    for where, settings in (
        ("settings", study.settings),
        *((f"tasks.{n}.settings", t.settings) for n, t in study.tasks.items()),
        *([("transfer.settings", study.transfer.settings)] if study.transfer else []),
    ):
        if own := next((name for name in settings if name in _OWN), None):
            raise UserError(f"{where} has {own}, which each job has its own value of: remove it.")
        if apart := next((name for name in settings if name in _APART and not where.startswith("transfer")), None):
            raise UserError(f"{where} has {apart}, which sets runs apart: make it one of a task's conditions.")
    for where, chosen in (("retrieval", study.retrieval), ("similarity", study.similarity)):
        if chosen is None:
            continue
        if bool(chosen.pairs) == bool(chosen.texts):
            raise UserError(f"{where} needs either pairs or texts.")
        if chosen.texts and not (chosen.column and chosen.languages):
            raise UserError(f"{where}.texts needs {where}.column, the column of sentences, and {where}.languages.")
        if odd := next((name for name in ("column", "pivot", "split") if chosen.pairs and getattr(chosen, name)), None):
            raise UserError(f"{where}.{odd} goes with texts, and {where} has pairs.")
        for name in (chosen.tickets.tasks or []) if chosen.tickets else []:
            _known_task(study, f"{where}.tickets.tasks", name)
        there = {language for task in study.tasks.values() for language in task.languages}
        for language in (chosen.tickets.languages or []) if chosen.tickets else []:
            if language not in there:
                raise UserError(f"{where}.tickets.languages has {language[:40]}, which is no language of any task.")
    for name in study.transfer.config if study.transfer else {}:
        _known_task(study, "transfer.config", name)
    if study.transfer and study.transfer.across_tasks and len(study.tasks) < 2:
        raise UserError("transfer.across_tasks needs two tasks at least, and the study has one.")
    if Path(study.report.page).name != study.report.page:
        raise UserError(f"report.page is {study.report.page}: it must be a file's name in the study's folder.")


def _check_conditions(study: Study) -> None:
    """Refuses conditions that set nothing apart, or two runs alike, and languages that the task does not have."""
    for name, task in study.tasks.items():
        there: set[tuple[str, int, str | None]] = set(product(task.languages, study.seeds, [None]))
        for number, condition in enumerate(task.conditions, start=1):
            where = f"tasks.{name}.conditions, number {number}"
            for language, seed in product(condition.languages or task.languages, condition.seeds or study.seeds):
                if language not in task.languages:
                    raise UserError(f"{where}, has {language[:40]}, which is none of the task's languages.")
                run = (language, seed, condition.name(seed))
                if run in there:
                    what = run[2] or "plain"
                    raise UserError(f"{where}, makes a run that is there already: {language}, seed {seed}, {what}.")
                there.add(run)
    seeds = study.transfer.ticket_seeds if study.transfer else None
    if odd := next((seed for seed in seeds or () if seed not in study.seeds), None):
        raise UserError(f"transfer.ticket_seeds has {odd}, which is none of the study's seeds.")


def _known_task(study: Study, where: str, name: str) -> None:
    if name not in study.tasks:
        raise UserError(f"{where} names {name[:40]}, which is none of the study's tasks: {', '.join(study.tasks)}.")


def _check_list(where: str, setting: Field[Any], values: list[Any]) -> None:
    """Refuses a list that says nothing, and one that says a thing twice, which would be one job twice."""
    if not values and setting.default_factory is not list:
        left_out = "" if setting.default is not None else ", or leave it out"
        raise UserError(f"{where} is empty: name at least one{left_out}.")
    if setting.name not in {"config", "options", "conditions"}:
        for twice in [value for number, value in enumerate(values) if value in values[:number]][:1]:
            raise UserError(f"{where} has {shown(twice)} twice.")


def _check_bounds(settings: Any, prefix: str) -> None:
    check_numbers(get_type_hints(type(settings)), vars(settings), prefix=prefix)
    for setting in fields(settings):
        name, value = setting.name, getattr(settings, setting.name)
        if isinstance(value, list):
            _check_list(f"{prefix}{name}", setting, value)
            for number, inner in enumerate(value, start=1):
                if is_dataclass(inner):
                    _check_bounds(inner, f"{prefix}{name}, number {number}: ")
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
        return replace(chosen, pairs=[at(name) for name in chosen.pairs], texts=texts)

    tasks = {
        name: replace(task, config=files(task.config), dataset=task.dataset and at(task.dataset))
        for name, task in study.tasks.items()
    }
    transfer = study.transfer
    if transfer is not None:
        layers: dict[str, Configs] = {name: files(config) for name, config in transfer.config.items()}
        transfer = replace(transfer, config=layers)
    return replace(
        study,
        tasks=tasks,
        base_model=study.base_model and at(study.base_model),
        output=str(study.folder),
        transfer=transfer,
        retrieval=sentences(study.retrieval),
        similarity=sentences(study.similarity),
    )


def shown_path(path: Path) -> str:
    """A path as one would type it: relative to the working directory where it is below it, else absolute."""
    whole, here = Path(os.path.abspath(path)), Path.cwd()  # noqa: PTH100 (resolve would follow links)
    if not (whole.exists() and path.exists() and whole.samefile(path)):
        whole = path.resolve()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)
