"""A model shared out among real processes (gloo): the same masks as in one process, bit for bit."""

import pytest

from tests import sharded_cases
from tests.processes import on_ranks

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("count", [2, 4])
def test_ranks_find_together_what_one_process_finds(count):
    on_ranks(count, sharded_cases.cases, count)
