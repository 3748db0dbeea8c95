"""Lengths of time in the configuration: ``90s``, ``15m``, ``4h``, ``7d``, ``2w``, ``5y``."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from pydantic import AfterValidator

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0, "y": 365.25 * 86_400}


def seconds(text: str) -> float:
    """How long that is. Raises ``ValueError``."""
    with suppress(ValueError, KeyError):
        found = float(text[:-1]) * _UNITS_S[text[-1:]]
        if 0 < found < float("inf"):
            return found
    raise ValueError(f"expected a time such as '15m' (s, m, h, d, w or y), found {text!r}")


def _checked(text: str) -> str:
    seconds(text)
    return text


Period = Annotated[str, AfterValidator(_checked)]
