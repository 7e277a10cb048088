import pytest
import yaml

from lnsub.common.errors import UserError
from lnsub.runs.settings import keep_settings

CONFIG = {
    "seed_everything": 57,
    "output": "runs",
    "model": {"base_model": "m", "learning_rate": 5e-05},
    "trainer": {"devices": 1, "max_epochs": 3, "callbacks": [{"class_path": "lnsub.IMPCallback"}]},
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "config.yaml"
    keep_settings(path, CONFIG)
    return path


def changed(where: tuple[str, ...], value: object) -> dict:
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    place = config
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    return config


def test_settings_are_kept_in_their_order_and_may_be_given_again(path):
    assert list(yaml.safe_load(path.read_text())) == list(CONFIG)
    assert yaml.safe_load(path.read_text()) == CONFIG
    keep_settings(path, CONFIG)


@pytest.mark.parametrize("where", [("output",), ("trainer", "devices"), ("wandb",)], ids=".".join)
def test_what_does_not_change_the_result_may_differ(where, path):
    before = path.read_bytes()
    keep_settings(path, changed(where, "other"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("model", "learning_rate"), 0.1),
        (("trainer", "max_epochs"), 4),
        (("trainer", "callbacks"), None),
        (("model", "ticket"), "t.safetensors"),
    ],
    ids=str,
)
def test_another_setting_is_refused_by_name_and_values(where, value, path):
    with pytest.raises(UserError) as raised:
        keep_settings(path, changed(where, value))
    line = str(raised.value)
    assert ".".join(where) in line
    assert str(value).replace("None", "null") in line
    assert str(path.parent) in line


def test_a_damaged_file_is_refused_by_name(path):
    path.write_text("{not yaml")
    with pytest.raises(UserError, match=r"config\.yaml.*--output"):
        keep_settings(path, CONFIG)
