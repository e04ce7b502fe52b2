"""How the mint in memory says no: an exception inside, a NUT-00 error on the wire."""

from __future__ import annotations


class Refused(Exception):
    """The request is refused with a code of `error_codes.md`; nothing was done."""

    def __init__(self, code: int, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
