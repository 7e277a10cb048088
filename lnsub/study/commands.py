"""The command lines of a study's jobs, as one would type them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lnsub.runs.condition import PLAIN, Condition
from lnsub.study.settings import RetrievalStudy, SentenceStudy, SimilarityStudy, Study


def config_args(study: Study, task: str, *, transfer: bool = False) -> list[str]:
    """The configurations of a task."""
    names = [*study.tasks[task].config]
    if transfer and study.transfer is not None:
        names += study.transfer.config.get(task, [])
    return [part for name in names for part in ("--config", name)]


def setting_args(study: Study, task: str, *, transfer: bool = False) -> list[str]:
    """The settings that a study changes in a task's configurations, for its tickets or for their transfers."""
    own = study.tasks[task]
    settings: dict[str, object] = {}
    if study.base_model is not None:
        settings["model.base_model"] = study.base_model
    if own.dataset is not None:
        settings["data.init_args.dataset"] = own.dataset
    for_cells = study.transfer.settings if transfer and study.transfer is not None else {}
    return _options({**settings, **study.settings, **own.settings, **for_cells})


def fit_args(
    study: Study, task: str, language: str, seed: int, condition: Condition = PLAIN, *, transfer: bool = False
) -> list[str]:
    """The options of `lnsub fit` for one ticket's run; with ``transfer`` those of its cells, to be checked."""
    run = {"data.init_args.language": language, "seed_everything": seed, "output": str(study.folder)}
    settings = setting_args(study, task, transfer=transfer)
    return [*config_args(study, task, transfer=transfer), *settings, *_options({**run, **condition.settings()})]


def prepare_args(
    study: Study,
    task: str,
    languages: Sequence[str],
    folder: Path,
    seed: int | None = None,
    *,
    fetch_only: bool = False,
) -> list[str]:
    """The command line of `lnsub prepare`."""
    settings = [*setting_args(study, task), *([] if seed is None else [f"--seed_everything={seed}"])]
    args = ["prepare", *config_args(study, task), "--languages", ",".join(languages), "--output", str(folder)]
    return [*args, *(["--fetch-only"] if fetch_only else []), *(["--", *settings] if settings else [])]


def transfer_args(
    study: Study,
    task: str,
    tickets: Sequence[str],
    languages: Sequence[str],
    seed: int,
    output: Path,
    *,
    baselines: Sequence[str] = (),
    baselines_on: Sequence[str] = (),
    zero_shot: bool = False,
) -> list[str]:
    """The command line of `lnsub transfer`."""
    args = ["transfer", *config_args(study, task, transfer=True), "--tickets", *tickets]
    args += ["--languages", ",".join(languages), "--seeds", str(seed), "--output", str(output)]
    if baselines:
        args += ["--baselines", ",".join(baselines), "--baselines-on", ",".join(baselines_on)]
    args += ["--zero-shot"] if zero_shot else []
    args += ["--test"] if study.transfer is not None and study.transfer.test else []
    settings = setting_args(study, task, transfer=True)
    return [*args, *(["--", *settings] if settings else [])]


def sentence_args(
    command: str, chosen: SentenceStudy, base_model: str, tickets: Sequence[str], folder: Path, name: str
) -> list[str]:
    """The command line of `lnsub retrieve` or `lnsub similarity`: the table and the records go to ``folder``."""
    args = [command, *source_args(chosen, base_model)]
    args += ["--layers", _joined(chosen.layers)] if chosen.layers else []
    args += ["--pooling", chosen.pooling] if chosen.pooling != "mean" else []
    if isinstance(chosen, RetrievalStudy):
        args += ["--top", _joined(chosen.top), "--neighbours", str(chosen.neighbours), "--margin", chosen.margin]
    if isinstance(chosen, SimilarityStudy):
        args += ["--measures", ",".join(chosen.measures)]
        args += ["--resamples", str(chosen.resamples), "--shuffles", str(chosen.shuffles)]
    if tickets:
        own = chosen.tickets is not None and chosen.tickets.own
        args += ["--tickets", *tickets, "--without-dense", *(["--own-tickets"] if own else [])]
    return [*args, "--format", "csv", "--output", str(folder / f"{name}.csv"), "--record", str(folder / name)]


def fetch_sentences_args(command: str, chosen: SentenceStudy, base_model: str, path: Path) -> list[str]:
    """The command line that only fetches the sentences, and counts them in ``path``."""
    return [command, *source_args(chosen, base_model), "--fetch-only", "--format", "csv", "--output", str(path)]


def source_args(chosen: SentenceStudy, base_model: str) -> list[str]:
    """The options that name the model and the sentences."""
    args = ["--base-model", base_model]
    if chosen.texts is not None:
        args += ["--texts", chosen.texts]
        args += [
            part
            for option in ("column", "pivot", "split")
            if (value := getattr(chosen, option)) is not None
            for part in (f"--{option}", value)
        ]
    else:
        args += ["--pairs", *chosen.pairs]
    args += ["--languages", ",".join(chosen.languages)] if chosen.languages else []
    return [*args, *(["--max-pairs", str(chosen.max_pairs)] if chosen.max_pairs else [])]


def report_args(study: Study, base_models: Sequence[str]) -> list[str]:
    """The command line of `lnsub report`."""
    folder, chosen = study.folder, study.report
    args = ["report", str(folder), "--output", str(study.page)]
    sparsities = chosen.sparsities or (study.transfer.sparsities if study.transfer else None)
    args += ["--sparsities", _joined(sparsities)] if sparsities else []
    # With one base model its name as the study has it, as the tickets' own may be meant for another folder.
    args += ["--inherited", *(base_models if len(base_models) == 1 else [])] if chosen.inherited else []
    if chosen.figures is not None:
        args += ["--figures", str(folder / chosen.figures), "--format", ",".join(chosen.formats)]
    return args


def _joined(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _options(settings: Mapping[str, object]) -> list[str]:
    return [f"--{name}={_text(value)}" for name, value in settings.items()]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
