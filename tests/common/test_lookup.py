import pytest

from lnsub.common.errors import UserError
from lnsub.common.lookup import did_you_mean, lookup

TABLE = {"global": 1, "layer": 2}


def test_a_name_in_the_table_gives_its_entry():
    assert lookup("scope", "layer", TABLE) == 2


def test_an_unknown_name_is_refused_with_all_names_and_the_closest():
    with pytest.raises(UserError, match=r"scope 'globl' \(did you mean global\?\).*global, layer"):
        lookup("scope", "globl", TABLE)


def test_nothing_is_suggested_where_nothing_is_close():
    assert did_you_mean("zzz", TABLE) == ""
    with pytest.raises(UserError, match=r"scope 'zzz': .*global, layer"):
        lookup("scope", "zzz", TABLE)
