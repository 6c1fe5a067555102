"""The one exception of the package."""

from typing import Optional


class Error(Exception):
    """There is no run, or it has no such answers.

    What is wrong with an input is not raised but a row of Run.defects(), unless Run.raise_for_defects() is called.
    """

    code: str
    """Stable code: those of defects in docs/output.md, or what options cannot be had (no-release, not-libbpf, ...)."""
    file: Optional[str]
    """The input that it is about."""
    offset: Optional[int]
    """Where in it, in bytes."""

    def __init__(self, message: str, code: str, file: Optional[str] = None, offset: Optional[int] = None) -> None:
        # All of them are its arguments, so that it can be pickled.
        super().__init__(message, code, file, offset)
        self.code = code
        self.file = file
        self.offset = offset

    def __str__(self) -> str:
        return str(self.args[0])
