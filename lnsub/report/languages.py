"""Languages by code: their own names, and whether they are written from right to left."""

from collections.abc import Iterable
from html import escape

from lnsub.report.markup import tag

NAMES: dict[str, str] = {
    "af": "Afrikaans", "ar": "العربية", "az": "azərbaycanca", "be": "беларуская", "bg": "български", "bn": "বাংলা",
    "ca": "català", "cs": "čeština", "cy": "Cymraeg", "da": "dansk", "de": "Deutsch", "el": "Ελληνικά", "en": "English",
    "es": "español", "et": "eesti", "eu": "euskara", "fa": "فارسی", "fi": "suomi", "fr": "français", "gl": "galego",
    "gu": "ગુજરાતી", "he": "עברית", "hi": "हिन्दी", "hr": "hrvatski", "hu": "magyar", "hy": "հայերեն",
    "id": "Bahasa Indonesia", "is": "íslenska", "it": "italiano", "ja": "日本語", "jv": "Basa Jawa", "ka": "ქართული",
    "kk": "қазақша", "ko": "한국어", "ky": "кыргызча", "la": "Latina", "lt": "lietuvių", "lv": "latviešu",
    "mk": "македонски", "ml": "മലയാളം", "mn": "монгол", "mr": "मराठी", "ms": "Bahasa Melayu", "my": "မြန်မာ",
    "ne": "नेपाली", "nl": "Nederlands", "no": "norsk", "pa": "ਪੰਜਾਬੀ", "pl": "polski", "ps": "پښتو", "pt": "português",
    "ro": "română", "ru": "русский", "sd": "سنڌي", "si": "සිංහල", "sk": "slovenčina", "sl": "slovenščina",
    "sq": "shqip", "sr": "српски", "sv": "svenska", "sw": "Kiswahili", "ta": "தமிழ்", "te": "తెలుగు", "tg": "тоҷикӣ",
    "th": "ไทย", "tl": "Tagalog", "tr": "Türkçe", "ug": "ئۇيغۇرچە", "uk": "українська", "ur": "اردو", "uz": "oʻzbekcha",  # noqa: RUF001
    "vi": "Tiếng Việt", "yi": "ייִדיש", "yo": "Yorùbá", "zh": "中文",
}  # fmt: skip
"""Native names of the languages of XNLI, of WikiANN and Wikipedia's larger ones."""

RIGHT_TO_LEFT = frozenset({"ar", "fa", "he", "ps", "sd", "ug", "ur", "yi"})
"""Languages whose names, here, run from right to left."""

_ISOLATE, _END = "\u2068", "\u2069"


def label(code: str) -> str:
    """A language's own name and its code as plain text, the name isolated so that its direction moves nothing else.

    A mixture is written by its codes: ``en + fa``.
    """
    if "+" in code:
        return code.replace("+", " + ")
    name = NAMES.get(code)
    return f"{_ISOLATE}{name}{_END} {code}" if name else code


def labels(codes: Iterable[str]) -> dict[str, str]:
    """What figures call languages, by code: those that are called something else than their code."""
    return {code: text for code in codes if (text := label(code)) != code}


def html_label(code: str) -> str:
    """The same as HTML, the name in a ``bdi`` with its language and direction."""
    name = NAMES.get(code)
    if name is None:
        return escape(label(code))
    direction = "rtl" if code in RIGHT_TO_LEFT else "ltr"
    return f"{tag('bdi', escape(name), lang=code, dir=direction)} {escape(code)}"
