"""The studies that lnsub ships can be run: every one is planned, on small stand-ins for what the Hub has."""

import shutil
from pathlib import Path

import pytest

from lnsub.runs.folder import RunFolder
from lnsub.study.file import read_study
from lnsub.study.plan import make_plan
from lnsub.tasks import tasks
from tests.support.paper_world import MIXED, make_world
from tests.support.study_plans import check_commands, check_order, check_places

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs" / "studies").glob("*.yaml"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the models, the data in every language, the configurations at toy size, the studies."""
    folder = tmp_path_factory.mktemp("shipped")
    make_world(folder)
    shutil.copytree(ROOT / "configs" / "studies", folder / "configs" / "studies")
    (folder / "intfloat").mkdir()
    (folder / "intfloat" / "multilingual-e5-small").symlink_to(folder / "google-bert" / "bert-base-multilingual-cased")
    for task in tasks().values():
        data = folder / task.dataset
        for language in ["ar", "de", "en", "es", "fa", "fr", "hi", "ru", "sw", "ur", "zh"] if data.is_dir() else ():
            if not (data / language).exists():
                (data / language).symlink_to(data / MIXED[0])
    return folder


@pytest.mark.parametrize("name", [path.stem for path in SHIPPED])
def test_a_shipped_study_can_be_planned(name, world, monkeypatch):
    monkeypatch.chdir(world)
    study = read_study(Path("configs/studies") / f"{name}.yaml")
    plan = make_plan(study)
    check_order(plan.jobs)
    check_commands(plan.jobs)
    check_places(plan.jobs)
    fits = {job.leaves.shown.partition(" ")[0] for job in plan.of_kind("fit")}
    plain = {
        f"{RunFolder.of(plan.folder, task, language, seed).path}/"
        for task, settings in study.tasks.items()
        for language in settings.languages
        for seed in study.seeds
    }
    apart = {
        f"{plan.folder}/{task}/{language}/seed57-{condition}/"
        for task, settings in study.tasks.items()
        for condition, languages in (
            ("sample1", settings.languages),
            ("head58", ["fr", "ur"]),
            ("shuffled", ["fr", "ur"]),
        )
        for language in languages
    }
    assert fits == plain | (apart if name.startswith("evidence") else set())


def test_the_demos_study_can_be_planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = make_plan(read_study(ROOT / "lnsub" / "demo" / "study.yaml"))
    check_order(plan.jobs)
    check_commands(plan.jobs)
    check_places(plan.jobs)
    # All that it needs is embedded.
    assert not plan.of_kind("fetch")
