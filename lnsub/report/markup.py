"""HTML elements."""

from html import escape


def tag(name: str, /, *content: str, **attributes: object) -> str:
    """Writes one element.

    Args:
        name: ``p``, ``div``, ...
        content: markup inside it, in order; text goes through :func:`html.escape` first.
        attributes: by name, with ``_`` for ``-``; a last ``_`` is dropped (``class_``). None leaves one out.

    Returns:
        The markup.
    """
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(content)
    return f"<{name}{listed}/>" if not inside and name in _EMPTY else f"<{name}{listed}>{inside}</{name}>"


_EMPTY = {"meta", "path", "br"}
