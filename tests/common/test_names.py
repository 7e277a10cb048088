import pytest

from lnsub.common.errors import UserError
from lnsub.common.names import LONGEST, looks_local, name_problem, plain_name

PLAIN = ["fr", "zh-Hans", "en+fa+fr+zh", "sr_Latn", "हिन्दी", "a.b", "x" * LONGEST, "en fr", "-x", "~", "$HOME"]
ODD = [
    *("", ".", "..", "../x", "../../x", "en/../../esc/data", "/etc", "a/b", "a\\b", "..\\x", ".hidden"),
    *("+", "en+", "+en", "en++fr", "en+..", "en+../x", "en+/x", "en+.x"),
    *("a\0b", "a\nb", "a\x1b[2Jb", " fr", "fr ", "\ud800", "\u202eab", "x" * (LONGEST + 1), "é" * LONGEST),
]


@pytest.mark.parametrize("name", PLAIN)
def test_one_plain_path_component_is_a_name(name: str) -> None:
    assert plain_name("language", name) == name


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_what_may_lead_out_of_a_folder_is_refused(name: str) -> None:
    assert name_problem(name)
    with pytest.raises(UserError) as raised:
        plain_name("language", name)
    line = str(raised.value)
    assert "language" in line
    assert line.isprintable()
    assert len(line) < 400


def test_many_parts_are_no_folder_but_may_be_what_a_ticket_is_of() -> None:
    name = "+".join(["en"] * 100)
    assert not name_problem(name)
    with pytest.raises(UserError):
        plain_name("language", name)


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("facebook/xnli", False),
        ("wikiann", False),
        ("./data", True),
        ("../data/xnli", True),
        ("~/data", True),
        ("/data", True),
        ("a/b/c", True),
    ],
)
def test_a_name_that_is_written_like_a_path_is_local(name, local):
    assert looks_local(name) == local


def test_a_relative_folder_that_exists_is_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not looks_local("data/xnli")
    (tmp_path / "data" / "xnli").mkdir(parents=True)
    assert looks_local("data/xnli")
