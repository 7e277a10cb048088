"""Scopes: which parameters are ranked together."""

from collections.abc import Callable, Mapping

from lnsub.tickets.parameters import layer_of, stack_of

SCOPES: Mapping[str, Callable[[str], str]] = {
    "global": lambda name: "all parameters together",
    "layer": lambda name: f"layer {layer_of(name)}",
    "matrix": lambda name: name,
    "row": lambda name: f"each row of {name}",
    "stack": lambda name: f"the {stack_of(name)}",
}
"""The scopes by the name that a config gives them: parameters for which the function says the same are one group.

Of scope ``row`` that is only where the groups are: :mod:`lnsub.pruning.rows` ranks within them."""
