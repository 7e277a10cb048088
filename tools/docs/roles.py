"""An extension of griffe: the roles of docstrings (``:class:`Ticket```) become links where the API has the name.

Names that no page documents stay as code.
"""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(mod|class|func|meth|data|attr):`(~?)([\w.]+)`")


class Roles(griffe.Extension):
    """Rewrites each docstring once, when its object has been read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replaces the roles in an object's docstring."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(lambda found: link(obj, found), obj.docstring.value)


def link(obj: griffe.Object, found: re.Match[str]) -> str:
    """The link for one role: to the full name; shown are a module's full name, and the last part of what is in one."""
    role, short, name = found.groups()
    shown = name.rpartition(".")[2] if short or (name.startswith("lnsub.") and role != "mod") else name
    try:
        target = name if name.startswith("lnsub.") else obj.resolve(name)
    except griffe.NameResolutionError:
        target = name
    return f'<autoref optional identifier="{target}">`{shown}`</autoref>'
