"""The Hugging Face Hub: names of repositories, and its client's errors as one sentence each."""

from collections.abc import Iterator
from contextlib import contextmanager

from lnsub.common.errors import UserError

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
"""How a user gets a token to where the Hub's client finds it."""

LIBRARY = "lnsub"
"""What the client tells the Hub of its caller."""

_LONGEST_REASON = 240
"""The most characters of the Hub's or the network's own message that are passed on."""


def check_repository(name: str) -> str:
    """Returns the name of a repository on the Hub, or refuses it.

    Args:
        name: ``ORG/NAME``, the organisation or user first.

    Raises:
        UserError: the Hub has no repository of such a name.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    wanted = "give ORG/NAME, such as my-lab/mbert-tickets"
    if name.count("/") != 1:
        raise UserError(f"'{name[:80]}' is not the name of a repository on the Hugging Face Hub: {wanted}")
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise UserError(
            f"'{name[:80]}' is not the name of a repository on the Hugging Face Hub, whose two parts have letters, "
            f"digits, '-', '_' and '.' only: {wanted}"
        ) from None
    return name


def check_may_push() -> None:
    """Refuses a push that is bound to fail, before any work is done for it.

    Raises:
        UserError: the client is offline by the environment, or has no token.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UserError("Nothing can be pushed to the Hugging Face Hub while HF_HUB_OFFLINE is set: unset it.")
    if get_token() is None:
        raise UserError(f"The Hugging Face Hub takes a push only with a token, and there is none: {LOGIN}.")


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turns what the Hub's client raises into a :class:`UserError`.

    Args:
        what: what is read or written, as the message should call it: ``my-lab/mbert-tickets``.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        told = _told(what, error)
        if told is None:
            raise
        raise UserError(told) from error


def _told(what: str, error: Exception) -> str | None:
    """The sentence for an error of the Hub's client; None for an error of another origin, such as a full disk."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    chain = list(_causes(error))
    if answer := next((cause for cause in chain if isinstance(cause, HfHubHTTPError)), None):
        return _answered(what, answer)
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in chain) or (
        constants.HF_HUB_OFFLINE and isinstance(error, LocalEntryNotFoundError)
    ):
        return (
            f"{what} is not (or not wholly) in the Hugging Face Hub's cache on this machine, and HF_HUB_OFFLINE keeps "
            "it from being fetched: unset that, or fetch it where there is a network."
        )
    # The client's network library differs between its versions, so its errors are told by their name.
    if failure := next((c for c in chain if any(k.__name__ == "TransportError" for k in type(c).__mro__)), None):
        return _unreachable(what, str(failure) or type(failure).__name__)
    if isinstance(error, LocalEntryNotFoundError):
        return _unreachable(what, str(error).split("\n")[0])
    if isinstance(error, ValueError) and "README.md" in str(error):
        return f"The Hugging Face Hub does not accept the card of {what}: {_shortened(str(error))}."
    return None


def _answered(what: str, error: Exception) -> str:
    """The sentence for a refusal by the Hub."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    assert isinstance(error, HfHubHTTPError)
    status = error.response.status_code
    message = _shortened(error.server_message or str(error))
    if isinstance(error, GatedRepoError):
        return f"{what} is gated: ask for access on its page on the Hugging Face Hub, and {LOGIN}."
    if isinstance(error, RevisionNotFoundError):
        return f"The Hugging Face Hub has no such revision of {what}: check its branches and tags."
    if isinstance(error, EntryNotFoundError):
        return f"The Hugging Face Hub has no file {what}: check the path on the repository's page."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"The Hugging Face Hub has no repository for {what}, or it is a private one that your token may not read: "
            f"check the name, or {LOGIN}."
        )
    if status == 401:
        return f"The Hugging Face Hub does not accept your token for {what} ({message}): {LOGIN}."
    if status == 403:
        return (
            f"Your token may not do this with {what} on the Hugging Face Hub ({message}): use a token with write access"
            " to it, or another name."
        )
    if status in (409, 412):
        return f"{what} was changed on the Hugging Face Hub meanwhile ({message}): run the same command again."
    return f"The Hugging Face Hub refuses this for {what}: {status}, {message}."


def _unreachable(what: str, reason: str) -> str:
    from huggingface_hub import constants

    return (
        f"The Hugging Face Hub at {constants.ENDPOINT} cannot be reached for {what} ({_shortened(reason)}): check the "
        "network and run the same command again."
    )


def _shortened(text: str) -> str:
    line = " ".join(text.split()).rstrip(".:")
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ..."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it comes from, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
