"""What of ``datasets`` is private and used here.

A :class:`datasets.Dataset` keeps a fingerprint that changes with its content and is the same at each load of one
revision from the Hub, but has no public name for it: it can only be set (``new_fingerprint=``).
"""

import datasets


def fingerprint(table: datasets.Dataset) -> str:
    """Returns a string that changes when the table's content does."""
    return str(table._fingerprint)
