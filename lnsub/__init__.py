"""lnsub: find, transfer and compare the language-neutral sub-networks of multilingual language models."""

from lnsub.errors import UserError
from lnsub.version import __version__

__all__ = ["UserError", "__version__"]
