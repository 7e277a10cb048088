import json
import unicodedata

from lnsub.common.printable import printable, printable_json

NAMES = ["google-bert/bert-base-multilingual-cased", "مدل‌های فارسی", "हिन्दी", "日本語 モデル", "it's 100 %"]


def test_names_of_any_script_stay_as_they_are() -> None:
    for name in NAMES:
        assert printable(name) == name
        assert json.loads(printable_json(json.dumps(name, ensure_ascii=False))) == name


def test_every_control_character_of_unicode_is_escaped() -> None:
    controls = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in {"Cc", "Cs", "Zl", "Zp"}]
    assert len(controls) > 2000
    for control in [*controls, "\u202e", "\u2066"]:
        text = printable(f"a{control}b")
        assert text.isprintable()
        assert text.startswith("a\\")
        assert text.endswith("b")


def test_escaped_json_says_the_same() -> None:
    value = {"a\x1b[2J": ["\x7f\x9b", "\u202e", "\u2028"]}
    text = printable_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(text) == value
    assert not [character for character in text if character != "\n" and not character.isprintable()]
