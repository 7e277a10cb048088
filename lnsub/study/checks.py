"""What types do not say of the settings of a study file."""

from dataclasses import Field, fields, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_type_hints

from lnsub.common.bounds import check_numbers, shown
from lnsub.common.errors import UserError
from lnsub.common.names import plain_name
from lnsub.study.settings import PrimaryEndpoint, Study
from lnsub.study.sources import sources

_OWN = {"config", "seed_everything", "output", "data.language", "data.init_args.language", "model.ticket"}
_APART = {"head_seed", "order_seed", "subset_seed", "data.init_args.train_sample", "data.init_args.labels"}
"""Settings of `lnsub fit` that each job has its own value of; the latter, that tell its runs apart."""


def check(study: Study) -> None:
    """Checks what types do not say.

    Raises:
        UserError: a setting is out of bounds, says a thing twice, or does not go with another.
    """
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
    if study.primary:
        _check_primary(study, study.primary)
    if Path(study.report.page).name != study.report.page:
        raise UserError(f"report.page is {study.report.page}: it must be a file's name in the study's folder.")


def _check_primary(study: Study, primary: PrimaryEndpoint) -> None:
    _known_task(study, "primary.task", primary.task)
    if len(primary.sets) != 2:
        raise UserError(
            f"primary.sets has {len(primary.sets)}: name two sets of runs, such as [seed57, seed57-sample1]."
        )
    there = dict.fromkeys(source.run for source in sources(study) if source.task == primary.task)
    for name in primary.sets:
        if name not in there:
            raise UserError(
                f"primary.sets has {name[:40]}, which is no run of {primary.task}; there are {', '.join(there)}."
            )
    if primary.measure.startswith("departure") and not study.report.inherited:
        raise UserError(
            f"primary.measure is {primary.measure}, which takes inherited masks: set report.inherited: true."
        )


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
