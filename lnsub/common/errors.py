"""The exceptions with user-facing messages: what the user can put right, and why a run had to stop."""


class UserError(ValueError):
    """Something the user can put right.

    The message is one or two sentences: what was wrong, where, and what to do about it. The command line prints it on
    one line and exits with status 2; anything else that is raised is a bug and shows its traceback.
    """


class RunError(RuntimeError):
    """A run that has to stop for a reason that no setting puts right, for example as another of its processes is gone.

    The message is user-facing, like that of :class:`UserError`; the command line prints it and exits with status 1.
    """
