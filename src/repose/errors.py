"""The one exception for mistakes that a user can mend. The command line prints it as one line and exits with 2."""


class UserError(Exception):
    """A mistake in the input (a typo, a missing file, a checkpoint of another model).

    The message is one clear line that names the file or key and the fix; no traceback is shown for it.
    """
