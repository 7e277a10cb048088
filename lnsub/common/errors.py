"""The exceptions with user-facing messages."""


class UserError(ValueError):
    """An error that the user can fix.

    The message is one or two sentences: what is wrong, where, and what to do about it. The command line prints it on
    one line and exits with status 2; any other exception is a bug and shows its traceback.
    """


class RunError(RuntimeError):
    """A run has to stop for a reason other than its input, for example because another of its processes has died.

    The message is user-facing, like that of :class:`UserError`; the command line prints it and exits with status 1.
    """
