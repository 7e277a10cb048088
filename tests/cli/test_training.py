"""The command as a user types it: configs, errors in one line, help, and a whole run through `lnsub fit`."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from lnsub.cli.main import OTHERS, TRAINING, main
from lnsub.common.error_messages import user_message
from lnsub.common.errors import UserError
from lnsub.runs.records import read
from lnsub.tasks import data_modules
from lnsub.version import __version__
from tests.support.command import CONFIGS, arguments, parsed, said


def test_fit_finds_tickets_repeats_itself_from_its_config_and_knows_when_it_is_done(bert, data, tmp_path, capsys):
    assert main(arguments(bert, data, tmp_path / "a", wandb="null", **{"trainer.log_every_n_steps": 1})) == 0
    folder = tmp_path / "a" / "wikiann" / "en" / "seed57"
    assert sorted(path.name for path in (folder / "tickets").iterdir()) == ["s0.30.safetensors", "s0.60.safetensors"]
    records = read(folder / "results.jsonl")
    assert {r.sparsity for r in records} == {0.0, 0.3, 0.6}
    assert {r.metric for r in records} == {"f1", "f1_default", "precision", "recall"}
    header = (folder / "metrics.csv").read_text().splitlines()[0]
    assert {"imp/sparsity", "imp/val_f1", "train_loss", "val_f1"} <= set(header.split(","))
    out = capsys.readouterr().out
    assert "0.60" in out
    assert str(folder.name) in out

    assert main(["fit", f"--config={folder / 'config.yaml'}"]) == 0
    assert re.search(r"\b3 rounds\b", capsys.readouterr().err)
    assert read(folder / "results.jsonl") == records

    assert main(["fit", f"--config={folder / 'config.yaml'}", f"--output={tmp_path / 'b'}"]) == 0
    again = read(tmp_path / "b" / "wikiann" / "en" / "seed57" / "results.jsonl")
    assert [(r.round, r.metric, r.value, r.ticket) for r in again] == [
        (r.round, r.metric, r.value, r.ticket) for r in records
    ]
    verify = ["ticket", "verify", *map(str, sorted((folder / "tickets").iterdir()))]
    assert main(verify) == 0
    assert main(["overlap", *map(str, sorted((folder / "tickets").iterdir()))]) == 0
    assert "0.5713" in capsys.readouterr().out  # nested: 1,638 / 2,867 of 4,096 weights


def test_validate_test_and_predict_work_on_a_fine_tuned_model(bert, data, tmp_path, capsys):
    fit = [a for a in arguments(bert, data, tmp_path / "a", wandb="null") if "sparsities" not in a]
    fit.append("--trainer.callbacks=null")
    assert main(fit) == 0
    folder = tmp_path / "a" / "wikiann" / "en" / "seed57"
    tuned = [f"--config={folder / 'config.yaml'}", f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"]
    capsys.readouterr()
    assert main(["validate", *tuned]) == 0
    value = next(r.value for r in read(folder / "results.jsonl") if r.metric == "recall")
    shown = re.search(r"val_recall\W+([\d.]+)", capsys.readouterr().out)
    assert shown
    assert float(shown.group(1)) == pytest.approx(value, abs=1e-6)
    assert main(["test", *tuned]) == 0
    assert "test_f1" in capsys.readouterr().out
    assert main(["predict", *tuned]) == 0
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [row["index"] for row in rows] == list(range(8))


def test_another_setting_in_the_same_folder_is_refused(bert, data, tmp_path, capsys):
    assert main(arguments(bert, data, tmp_path / "a", wandb="null")) == 0
    folder = tmp_path / "a" / "wikiann" / "en" / "seed57"
    before = (folder / "config.yaml").read_bytes()
    line = said(capsys, arguments(bert, data, tmp_path / "a", wandb="null", **{"model.learning_rate": 0.1}))
    assert all(fact in line for fact in ("model.learning_rate", "2e-05", "0.1"))
    assert (folder / "config.yaml").read_bytes() == before


def test_a_run_that_failed_before_it_had_results_does_not_stand_in_the_way(bert, data, tmp_path, capsys):
    wrong = arguments(bert, data / "nowhere", tmp_path / "a", wandb="null")
    assert "nowhere" in said(capsys, wrong)
    assert main(arguments(bert, data, tmp_path / "a", wandb="null", **{"trainer.callbacks.sparsities": "[0.5]"})) == 0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_parses_and_names_only_settings_that_exist(config):
    cli = parsed(["fit", f"--config={config}"])
    given = yaml.safe_load(config.read_text())
    assert cli["seed_everything"] == 57
    assert cli["trainer"]["gradient_clip_val"] == 1.0
    assert cli["trainer"]["precision"] == "bf16-mixed"
    assert cli["trainer"]["callbacks"][0]["init_args"]["sparsities"] == [x / 10 for x in range(1, 10)]
    assert cli["data"]["init_args"]["language"] == given["data"]["init_args"]["language"]
    module = data_modules()[cli["data"]["class_path"].split(".")[-1]]
    assert config.stem.split("_")[:2] == [module.task_class.name, cli["data"]["init_args"]["language"]]


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"model.learning_rat": 1}, "learning_rate"),
        ({"data.init_args.langauge": "fr"}, "language"),
        ({"trainer.max_epoch": 1}, "max_epochs"),
        ({"trainer.callbacks.sparsitis": "[0.1]"}, "sparsities"),
        ({"data.init_args.language": "xx"}, "xx en fr"),
        ({"model.base_model": "./nowhere"}, "nowhere"),
        ({"model.learning_rate": -1}, "learning_rate -1"),
        ({"model.learning_rate": "fast"}, "learning_rate fast"),
        ({"trainer.callbacks.sparsities": "[0.5,0.2]"}, "0.2 0.5"),
        ({"trainer.callbacks.sparsities": "[1.5]"}, "1.5"),
        ({"trainer.callbacks.score": "magnitud"}, "magnitud"),
        ({"data.init_args.dataset": "./nodata"}, "nodata"),
        ({"model.ticket": "missing.safetensors"}, "missing.safetensors"),
        ({"config": "missing.yaml"}, "missing.yaml"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_input_is_one_line_that_names_it(change, facts, bert, data, tmp_path, capsys):
    line = said(capsys, arguments(bert, data, tmp_path / "a", wandb="null", **change))
    assert all(fact in line for fact in facts.split())
    assert len(line) < 500
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("where", "change", "facts"),
    [
        ((), {"seed": 1}, "seed"),
        (("model",), {"learning_rat": 1}, "learning_rate"),
        (("data", "init_args"), {"langauge": "fr"}, "language"),
        (("data",), {"class_path": "lnsub.XNLY"}, "lnsub.XNLY"),
        (("data", "init_args"), {"batch_size": "many"}, "batch_size whole number many"),
        (("trainer", "callbacks", 0, "init_args"), {"sparsitis": 1}, "sparsities"),
        (("trainer", "callbacks", 0, "init_args"), {"score": "magn"}, "score magn magnitude random"),
        (("trainer",), {"precision": "bf15"}, "trainer.precision bf15"),
    ],
    ids=str,
)
def test_a_mistake_in_a_config_file_is_named(where, change, facts, tmp_path, capsys):
    config = yaml.safe_load(CONFIGS[0].read_text())
    place = config
    for key in where:
        place = place[key]
    place.update(change)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    line = said(capsys, ["fit", f"--config={tmp_path / 'config.yaml'}", "--model.base_model=./nowhere"])
    assert all(fact in line for fact in facts.split())


@pytest.mark.parametrize(
    ("args", "facts"),
    [
        (["fitt"], "'fitt' mean fit?"),
        (["ticket"], "info|verify"),
        (["ticket", "info", "no.safetensors"], "no.safetensors"),
        (["overlap", "a.safetensors", "b.safetensors"], "a.safetensors"),
        (["demo", "--languages=xx,en"], "xx"),
        (["completion", "powershell"], "powershell"),
        (["fit"], "data"),
    ],
)
def test_other_commands_refuse_bad_input_in_one_line_too(args, facts, capsys):
    line = said(capsys, args)
    assert all(fact in line for fact in facts.split())


def test_a_bug_keeps_its_traceback_and_debug_shows_one_for_bad_input():
    with pytest.raises(UserError, match="no-such"):
        main(["--debug", "ticket", "info", "no-such.safetensors"])
    assert user_message(ZeroDivisionError("a bug")) is None


def test_help_and_version_answer_without_torch():
    code = (
        "import sys; from lnsub.cli.main import OTHERS, main; import contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    for args in (['--help'], ['--version'], *([name, '--help'] for name in OTHERS)):\n"
        "        try: main(args)\n"
        "        except SystemExit: pass\n"
        "print(sorted({'torch', 'lightning', 'transformers', 'datasets', 'wandb'} & set(sys.modules)), out.getvalue())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[]")
    assert __version__ in done.stdout
    for name in {**TRAINING, **OTHERS}:
        assert name in done.stdout


def test_the_help_of_fit_tells_what_each_setting_is(capsys):
    with pytest.raises(SystemExit) as left:
        main(["fit", "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert "--model.learning_rate" in text
    assert "peak learning rate" in text
    assert "--output" in text


def test_completion_knows_commands_and_options():
    from lnsub.cli.completion_script import script

    text = script("bash")
    assert "--model.learning_rate" in text
    assert "verify" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
