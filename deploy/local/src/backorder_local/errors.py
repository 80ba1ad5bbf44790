"""The one error that the command shows without a traceback."""


class LocalError(Exception):
    """Something the user can put right: the text says what happened and the way out."""

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
