"""Text of files that anybody may have written, made harmless for a terminal."""

import re

# Controls that a terminal obeys, or that reorder or break the line around them; of formatting characters only these, as
# names in Persian or Hindi are written with others.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Returns the text with control characters as a program would write them, such as ``\x1b``; see ``ascii()``."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def printable_json(text: str) -> str:
    r"""The same for JSON, which stays what it says: ``\u202e``. Below U+0020 it has no control but between values."""
    return _CONTROLS.sub(lambda found: found[0] if found[0] in "\n\t\r" else f"\\u{ord(found[0]):04x}", text)
