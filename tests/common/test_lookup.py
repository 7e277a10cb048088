import pytest

from lnsub.common.errors import UserError
from lnsub.common.lookup import lookup

TABLE = {"global": 1, "layer": 2}


def test_a_name_in_the_table_gives_its_entry():
    assert lookup("scope", "layer", TABLE) == 2


def test_an_unknown_name_is_refused_with_all_names_and_the_closest():
    with pytest.raises(
        UserError, match=r"^Unknown scope 'globl': choose one of global, layer\. Did you mean 'global'\?$"
    ):
        lookup("scope", "globl", TABLE)


def test_nothing_is_suggested_where_nothing_is_close():
    with pytest.raises(UserError, match=r"^Unknown scope 'zzz': choose one of global, layer\.$"):
        lookup("scope", "zzz", TABLE)
