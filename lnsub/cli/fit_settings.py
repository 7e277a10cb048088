"""The configuration of `lnsub fit` that other commands take: ``--config``, and settings after ``--``."""

import argparse
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from lnsub.common.errors import UserError

if TYPE_CHECKING:
    from lnsub.training.config import RunConfig

_LANGUAGE = frozenset({"--data.init_args.language", "--data.language"})


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config``."""
    parser.add_argument(
        "--config", action="append", required=True, metavar="C", help="configuration; later ones override earlier ones"
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds the settings after ``--``."""
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="after --: settings of `lnsub fit`")


def check_settings(settings: Sequence[str], own: Collection[str], example: str, why: str) -> None:
    """Refuses settings that are none, or that the command sets itself, before anything slow is imported.

    Args:
        settings: those after ``--``.
        own: options of `lnsub fit` that the command sets, beside the language.
        example: a setting that may follow.
        why: the end of a sentence whose subject is such an option.

    Raises:
        UserError: one may not follow.
    """
    for setting in settings:
        if not setting.startswith("--") or "=" not in setting:
            raise UserError(f"After -- only settings such as {example} may follow, not '{setting}'.")
        if (name := setting.split("=")[0]) in _LANGUAGE | set(own):
            raise UserError(f"{name} {why}.")


def parse_config(options: argparse.Namespace, languages: Sequence[str]) -> "RunConfig":
    """Parses the configuration, which need not name a language: the first of the command's stands in.

    Raises:
        UserError: see :meth:`lnsub.training.config.RunConfig.parse`.
    """
    from lnsub.training.config import RunConfig

    given = [*options.settings, *(f"--data.init_args.language={language}" for language in languages[:1])]
    return RunConfig.parse([*(f"--config={path}" for path in options.config), *given])
