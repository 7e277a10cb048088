"""The study file: parsed into typed settings, with the same care as a run's."""

import os
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from lnsub.common.bounds import shown
from lnsub.common.errors import UserError
from lnsub.common.plain_data import UnreadableError, read_text
from lnsub.study.checks import check
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

_SECTIONS = ("tasks", "transfer", "retrieval", "similarity", "primary", "report", "slurm")


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
        check(study)
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
    sections = {name: found.get(name) for name in _SECTIONS}
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
    # Without those of primary, whose `sparsity` would hide what a transfer's is to be called.
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
