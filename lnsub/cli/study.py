"""`lnsub study plan|run|submit|status|report`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lnsub.study.plan import Plan

VERBS = {
    "plan": "print the jobs, what each needs and leaves, and how long it may take",
    "run": "run the jobs that are not done on this machine",
    "submit": "hand the jobs that are not done to SLURM",
    "status": "tell what is done, runs, waits or has failed",
    "report": "make the page of what is there",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.description = (
        "Plans, runs and watches a whole study: tickets for several tasks, languages and seeds, their transfer,\n"
        "retrieval and similarity, and the report. A study is one file, see configs/studies/; its jobs are plain\n"
        "lnsub commands, and a job that is done is not repeated."
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(VERBS))
    calls = {"plan": _plan, "run": _run, "submit": _submit, "status": _status, "report": _report}
    for verb, text in VERBS.items():
        action = actions.add_parser(verb, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.add_argument("file", type=Path, metavar="FILE", help="the study file")
        action.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="SETTING=VALUE",
            help="override a setting of the file: --set base_model=M --set slurm.time=02:00:00",
        )
        if verb in {"plan", "run", "status"}:
            action.add_argument("--jobs", type=int, metavar="N", help="jobs at once (default: one, or one a GPU)")
        if verb == "plan":
            action.add_argument("--commands", action="store_true", help="print the commands alone, one a line")
        if verb == "submit":
            action.add_argument("--dry-run", action="store_true", help="print the calls of sbatch instead")
        action.set_defaults(call=calls[verb])


def _plan_of(options: argparse.Namespace) -> "Plan":
    from lnsub.common.errors import UserError
    from lnsub.study.file import read_study
    from lnsub.study.plan import make_plan

    if odd := next((setting for setting in options.set if "=" not in setting or setting.startswith("-")), None):
        raise UserError(f"--set takes SETTING=VALUE, such as --set base_model=M, not '{odd[:40]}'.")
    return make_plan(read_study(options.file, [f"--{setting}" for setting in options.set]))


def _jobs(options: argparse.Namespace) -> tuple[int, int]:
    """How many jobs run at once, and how many GPUs they have."""
    from lnsub.common.errors import UserError
    from lnsub.study.runner import gpus

    number = len(gpus())
    jobs = max(1, number) if options.jobs is None else options.jobs
    if not 1 <= jobs <= 1024:
        raise UserError(f"--jobs is {jobs}: it must be from 1 to 1,024.")
    return jobs, number


def _plan(options: argparse.Namespace) -> int:
    from lnsub.study.text import print_plan

    plan = _plan_of(options)
    if options.commands:
        sys.stdout.write("".join(f"{job.command}\n" for job in plan.jobs))
        return 0
    jobs, gpus = _jobs(options)
    print_plan(plan, jobs, gpus)
    return 0


def _run(options: argparse.Namespace) -> int:
    from lnsub.study.display import Display
    from lnsub.study.runner import run_study

    jobs, gpus = _jobs(options)
    plan = _plan_of(options)
    outcome = run_study(plan, jobs, Display(plan, jobs, gpus))
    for name, reason in outcome.failed.items():
        sys.stderr.write(f"lnsub: {name} failed: {reason}\n")
    if outcome.blocked:
        sys.stderr.write(f"lnsub: not run, as they need what failed: {', '.join(outcome.blocked)}\n")
    if outcome.failed:
        sys.stderr.write(f"lnsub: logs are in {plan.own / 'jobs'}; the same command tries again what failed.\n")
        return 1
    sys.stdout.write(f"All {len(plan.jobs)} jobs are done: {plan.study.page}\n")
    return 0


def _submit(options: argparse.Namespace) -> int:
    from lnsub.study.submit import submit

    return submit(_plan_of(options), dry_run=options.dry_run)


def _status(options: argparse.Namespace) -> int:
    from lnsub.study.text import print_status

    plan = _plan_of(options)
    jobs, gpus = _jobs(options)
    print_status(plan, jobs, gpus)
    return 0


def _report(options: argparse.Namespace) -> int:
    from lnsub.cli.commands import run

    report = _plan_of(options).of_kind("report")[0]
    return run(report.args[0], list(report.args[1:]))
