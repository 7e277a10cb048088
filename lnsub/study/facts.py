"""What a study's configurations say: checked, and reduced to what its plan needs. This is the part that needs torch."""

import pkgutil
from dataclasses import dataclass
from typing import Any

from lnsub.analysis.similarity.measures import MEASURES
from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup
from lnsub.models.pretrained import load_config, looks_local
from lnsub.study.commands import fit_args
from lnsub.study.settings import Study
from lnsub.training.config import RunConfig
from lnsub.training.imp import IMPCallback
from lnsub.transfer.baselines import parse_baseline


@dataclass(frozen=True)
class TaskFacts:
    """What the configuration of one task says.

    Attributes:
        metrics: what a complete measurement has.
        sparsities: of the rounds, 0 first.
        epochs: of one fit; None where ``steps`` bound it.
        steps: of one fit; None where ``epochs`` bound it.
        batch: rows in a training batch, per process.
        rows: the limit of training rows; None: all there are.
        base_model: the base model's name.
        weights: about how many prunable weights it has.
        remote: whether the model or the data come from the Hub.
    """

    metrics: tuple[str, ...]
    sparsities: tuple[float, ...]
    epochs: int | None
    steps: int | None
    batch: int
    rows: int | None
    base_model: str
    weights: int
    remote: bool


def read_facts(study: Study) -> dict[str, TaskFacts]:
    """Checks every configuration, language and baseline of a study before anything starts.

    Args:
        study: the study.

    Returns:
        The facts by task.

    Raises:
        UserError: a configuration does not fit its signatures or is of another task than it is named for; a language
            is not in the data; there is no such base model or baseline; a sparsity is none of the tickets'.
    """
    facts = {name: _facts(study, name) for name in study.tasks}
    if study.transfer is not None:
        for baseline in study.transfer.baselines:
            parse_baseline(baseline)
        for name, task in study.tasks.items():
            own = task.transfer_sparsities
            where = "transfer.sparsities" if own is None else f"tasks.{name}.transfer_sparsities"
            _check_sparsities(where, study.transfer.sparsities if own is None else own, {name: facts[name]})
        for name in study.tasks:
            RunConfig.parse(fit_args(study, name, study.tasks[name].languages[0], study.seeds[0], transfer=True))
        for language in study.transfer.across_tasks:
            if sum(language in task.languages for task in study.tasks.values()) < 2:
                raise UserError(
                    f"transfer.across_tasks has {language}, which must be a language of two tasks at least."
                )
    for where, chosen in (("retrieval", study.retrieval), ("similarity", study.similarity)):
        if chosen is not None and chosen.tickets is not None:
            named = chosen.tickets.tasks or list(facts)
            _check_sparsities(f"{where}.tickets.sparsities", chosen.tickets.sparsities, {n: facts[n] for n in named})
    for measure in study.similarity.measures if study.similarity else []:
        lookup("measure", measure, MEASURES)
    if len({fact.base_model for fact in facts.values()}) > 1 and study.transfer and study.transfer.across_tasks:
        raise UserError("transfer.across_tasks needs one base model: the tasks' configurations name different ones.")
    return facts


def _facts(study: Study, name: str) -> TaskFacts:
    task = study.tasks[name]
    config = RunConfig.parse(fit_args(study, name, task.languages[0], study.seeds[0]))
    data = config.data_module()
    if data.task.name != name:
        raise UserError(f"tasks.{name} has a configuration of the task {data.task.name}: call it {data.task.name}.")
    targets = (study.transfer.languages if study.transfer else None) or []
    for language in dict.fromkeys([*task.languages, *targets]):
        try:
            config.data_module(language).check()
        except UserError as error:
            raise UserError(f"tasks.{name}: {error}") from error
    _check_conditions(study, name)
    base_model, arguments = config.model["base_model"], config.data["init_args"]
    remote = not looks_local(base_model) or not looks_local(data.dataset)
    epochs, steps = config.trainer["max_epochs"], config.trainer["max_steps"]
    return TaskFacts(
        data.task.complete(),
        _sparsities(config, name),
        epochs if epochs and epochs > 0 else None,
        steps if steps > 0 else None,
        arguments.get("batch_size") or 32,
        arguments.get("max_train_blocks") or arguments.get("max_train_examples"),
        base_model,
        _weights(base_model),
        remote,
    )


def _check_conditions(study: Study, name: str) -> None:
    task = study.tasks[name]
    for condition in task.conditions:
        language, seed = (condition.languages or task.languages)[0], (condition.seeds or study.seeds)[0]
        try:
            RunConfig.parse(fit_args(study, name, language, seed, condition)).data_module()
        except UserError as error:
            raise UserError(f"tasks.{name}.conditions: {error}") from error


def _sparsities(config: RunConfig, name: str) -> tuple[float, ...]:
    callbacks = config.trainer["callbacks"] or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        if issubclass(pkgutil.resolve_name(callback["class_path"]), IMPCallback):
            return tuple(IMPCallback(**callback.get("init_args") or {}).levels)
    raise UserError(f"tasks.{name}: its configuration has no lnsub.IMPCallback, so that it finds no tickets.")


def _check_sparsities(where: str, wanted: list[float], facts: dict[str, TaskFacts]) -> None:
    for name, fact in facts.items():
        for sparsity in wanted:
            if not any(abs(sparsity - level) < 1e-6 for level in fact.sparsities[1:]):
                there = ", ".join(f"{level:g}" for level in fact.sparsities[1:])
                raise UserError(f"{where} has {sparsity:g}, but the tickets of {name} have {there}.")


def _weights(base_model: str) -> int:
    """About how many weights the blocks' matrices have: 12 h² a block, as in BERT."""
    config: Any = load_config(base_model)
    width = getattr(config, "hidden_size", None) or 768
    blocks = (getattr(config, "num_hidden_layers", None) or 12) + (getattr(config, "num_decoder_layers", None) or 0)
    return 12 * blocks * width * width
