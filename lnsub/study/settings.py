"""The settings of a study file; :mod:`lnsub.study.file` reads it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lnsub.common.bounds import Count, CountOrZero, Fraction, Nodes, Seed
from lnsub.runs.condition import Condition

Configs = str | list[str]
Setting = bool | int | float | str | list[Any] | None


@dataclass(frozen=True)
class ConditionStudy(Condition):
    """Runs that are set apart from the plain ones of their seeds, see :class:`~lnsub.runs.condition.Condition`.

    Attributes:
        languages: those that they find tickets on; null: the task's.
        seeds: theirs; null: the study's.
        transfer: whether their tickets are transferred too.
    """

    languages: list[str] | None = None
    seeds: list[Seed] | None = None
    transfer: bool = False


@dataclass(frozen=True)
class TaskStudy:
    """One task of a study.

    Attributes:
        config: the configuration of `lnsub fit`, or several, of which later ones override earlier ones.
        languages: the languages, or mixtures such as ``en+fa+fr+zh``, that tickets are found on.
        dataset: the data, a folder or a name on the Hub; null: the configuration's.
        settings: further settings of `lnsub fit`, by dotted name.
        transfer_sparsities: those of this task's tickets that are transferred; null: those of ``transfer``.
        conditions: runs beside the plain ones, for controlled comparisons.
    """

    config: Configs
    languages: list[str]
    dataset: str | None = None
    settings: dict[str, Setting] = field(default_factory=dict)
    transfer_sparsities: list[Fraction] | None = None
    conditions: list[ConditionStudy] = field(default_factory=list)


@dataclass(frozen=True)
class TransferStudy:
    """What is fine-tuned under the tickets.

    Attributes:
        sparsities: those of the tickets.
        baselines: see `lnsub transfer --help`.
        languages: the targets; null: the task's languages, without mixtures.
        across_tasks: languages whose tickets are also fine-tuned on the other tasks, in the same language.
        zero_shot: also fine-tune each ticket on its own language and evaluate it on all targets.
        test: also evaluate on test splits.
        config: configurations on top of the task's, for transfers alone, by task.
        settings: settings of `lnsub fit` for transfers alone, by dotted name, such as
            ``data.init_args.train_sample: 1`` for other rows than the tickets were found on.
        ticket_seeds: the seeds whose tickets are transferred; null: all of the study's.
        seeds: each ticket is fine-tuned once for each; null: its own.
    """

    sparsities: list[Fraction]
    baselines: list[str] = field(default_factory=list)
    languages: list[str] | None = None
    across_tasks: list[str] = field(default_factory=list)
    zero_shot: bool = False
    test: bool = False
    config: dict[str, Configs] = field(default_factory=dict)
    settings: dict[str, Setting] = field(default_factory=dict)
    ticket_seeds: list[Seed] | None = None
    seeds: list[Seed] | None = None


@dataclass(frozen=True)
class TicketChoice:
    """Which tickets sentences are embedded under.

    Attributes:
        sparsities: those of the tickets.
        tasks: the tasks that they were found on; null: all.
        languages: the languages and mixtures that they were found on; null: all.
        own: embed each language under its own ticket, instead of all under each.
    """

    sparsities: list[Fraction]
    tasks: list[str] | None = None
    languages: list[str] | None = None
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
    configurations are always relative to the study file, and ``output`` to the working directory.

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

    @property
    def folder(self) -> Path:
        """Its folder, a tree of runs."""
        return Path(self.output or f"runs/{self.name}")

    @property
    def own(self) -> Path:
        """The part of the folder that is the study's own: the plan, the jobs' logs, the receipts."""
        return self.folder / "study"

    @property
    def receipts(self) -> Path:
        """The receipts of prepared data."""
        return self.own / "data"

    @property
    def page(self) -> Path:
        """The report's page."""
        return self.folder / self.report.page
