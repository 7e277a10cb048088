"""A report's tables on W&B: their names, their values, and one run for each tree."""

import json

import pandas as pd
import pytest

from lnsub.common.errors import UserError
from lnsub.tracking.report_tables import log_tables
from tests.support.wandb_files import inspect


def test_a_reports_tables_are_logged_under_their_names_in_one_run(wandb_client, tmp_path):
    table = pd.DataFrame({"source": ["fr", "ur"], "value": [0.5, None], "note": [None, "few"]})
    for _ in range(2):
        log_tables({"transfer": table}, "team/study", tmp_path)
    paths = sorted(tmp_path.glob("wandb/offline-run-*"))
    logged = json.loads(next(paths[0].rglob("*.table.json")).read_text())
    assert logged == {"columns": ["source", "value", "note"], "data": [["fr", 0.5, None], ["ur", None, "few"]]}
    first, second = map(inspect, paths)
    assert first.id == second.id
    assert (first.project, first.job_type, first.exit_code) == ("study", "report", 0)
    assert any(key.startswith("transfer") for row in first.rows for key in row)


def test_what_wandb_refuses_is_one_sentence(wandb_client, tmp_path):
    with pytest.raises(UserError) as caught:
        log_tables({"transfer": pd.DataFrame({"a": [1]})}, "team/no:such", tmp_path)
    assert "\n" not in str(caught.value)
