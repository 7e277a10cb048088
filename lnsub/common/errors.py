"""The exceptions whose messages are for people: what they can put right, and why a run had to stop."""


class UserError(ValueError):
    """Something the user can put right.

    The message is one sentence or two: what was wrong, where, and what to do about it. The command line prints it
    on one line and exits with status 2; anything else that is raised is a bug and shows its traceback.
    """


class RunError(RuntimeError):
    """A run that has to stop for a reason that no setting puts right: another of its processes is gone, say.

    The message is for a person, as that of :class:`UserError`; the command line prints it and exits with status 1.
    """
