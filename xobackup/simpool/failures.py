"""How a call fails: an error code of XAPI with its parameters, all strings.

Every failure the pool raises by itself is checked against the documented parameter names (package data
``xapi-errors.json.gz``), or against the raising code of xapi where the documentation is wrong or silent. A number
of parameters that no real host sends is a programmer's mistake and asserts.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib import resources

UNDOCUMENTED: dict[str, int] = {
    "SESSION_AUTHENTICATION_FAILED": 2,
    "VM_IS_TEMPLATE": 2,
    "VM_IS_SNAPSHOT": 2,
    "VDI_IO_ERROR": 1,
    "VDI_IS_SHARABLE": 1,
    "ONLY_PROVISION_TEMPLATE": 0,
    "ONLY_REVERT_SNAPSHOT": 0,
    "VDI_CONTENT_ID_MISSING": 0,
    "CLIENT_ERROR": 1,
    "Dispatcher_FieldNotFound": 1,
}
"""Codes whose documentation is missing or wrong, with the number of parameters the raising code gives."""

VARIANTS: dict[str, frozenset[int]] = {"VDI_IN_USE": frozenset({0, 1, 2}), "VDI_MISSING": frozenset({0, 2})}
"""Codes that are raised with different numbers of parameters (VBD.plug names the VDI alone, SM nothing; an import
that names no disk has nothing to say about it)."""


class Failure(Exception):
    """A call's failure as a client sees it: ``code`` and ``params``."""

    def __init__(self, code: str, *params: object) -> None:
        self.code = code
        self.params = [str(param) for param in params]
        super().__init__(f"{code} {self.params}")
        assert self._plausible(), f"{code} does not take the parameters {self.params}"

    @classmethod
    def unchecked(cls, code: str, params: list[str]) -> Failure:
        """A failure as an injected fault wants it, whatever the catalogue says."""
        made = cls("INTERNAL_ERROR", "")
        made.code, made.params = code, list(params)
        made.args = (f"{code} {params}",)
        return made

    def _plausible(self) -> bool:
        if self.code.startswith("SR_BACKEND_FAILURE_"):
            return len(self.params) == 3
        if self.code in VARIANTS:
            return len(self.params) in VARIANTS[self.code]
        if self.code in UNDOCUMENTED:
            return len(self.params) == UNDOCUMENTED[self.code]
        return len(self.params) == len(catalogue()[self.code])

    @property
    def details(self) -> list[str]:
        """Code and parameters in one list, as tasks and JSON-RPC 1.0 carry them."""
        return [self.code, *self.params]


@cache
def catalogue() -> dict[str, list[str]]:
    """Documented error codes with the names of their parameters."""
    raw = resources.files("xobackup.simpool").joinpath("data", "xapi-errors.json.gz").read_bytes()
    codes: dict[str, list[str]] = json.loads(gzip.decompress(raw))
    return codes


def backend(number: int, description: str, detail: str = "") -> Failure:
    """A failure of a storage backend: SM's error number and text."""
    text = f"{description} [opterr={detail}]" if detail else description
    return Failure(f"SR_BACKEND_FAILURE_{number}", "", text, "")
