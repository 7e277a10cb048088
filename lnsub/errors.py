"""The one exception for what a person can put right: a bad option, file, data set or checkpoint."""


class UserError(ValueError):
    """Something the user can put right.

    The message is one sentence or two: what was wrong, where, and what to do about it. The command line prints it
    on one line and exits with status 2; anything else that is raised is a bug and shows its traceback.
    """
