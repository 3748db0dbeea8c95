"""XAPI's failures: from what a peer sent to an exception with its meaning, a sentence and a hint.

The meanings are data: :mod:`xobackup.xapi.failure_table` by code, :mod:`xobackup.xapi.sm_failures` for storage
backends (``SR_BACKEND_FAILURE_<n>``). A code that is in no table is a plain :class:`XapiFailure`: not transient.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from xobackup.xapi import errors
from xobackup.xapi.errors import XapiError, XapiFailure, clean_text
from xobackup.xapi.failure_table import MEANINGS, OTHER, Action, Meaning
from xobackup.xapi.sm_failures import DESCRIPTIONS, meaning_of

_SM_CODE = re.compile(r"SR_BACKEND_FAILURE_(\d{1,5})")
_NO_DELTA = Meaning(
    cls=errors.FullNeeded,
    params=("message",),
    hint="none needed: the pool cannot compute the difference, a full is made",
    action=Action.FULL,
)
_NOT_A_VHD = re.compile(r"not a vhd|non-VHD|compute differences", re.IGNORECASE)
_IN_TEXT = re.compile(r"\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b(?:\s*,\s*\[([^\]]{0,500})\])?")


def failure(code: object, params: Iterable[object] = (), *, method: str = "") -> XapiFailure:
    """The exception for a failure XAPI reported; takes whatever a peer sent."""
    name = clean_text(str(code)) or "an empty failure code"
    texts = tuple(_plain(param) for param in params)
    meaning = classify(name, texts)
    error = meaning.cls(name, texts, method=method, sentence=_sentence(name, texts, meaning))
    error.transient = meaning.transient
    error.hint = meaning.hint
    return error


def classify(code: str, params: Iterable[str] = ()) -> Meaning:
    """What a failure means. ``INTERNAL_ERROR`` is the one code whose text decides."""
    number = _SM_CODE.fullmatch(code)
    if number:
        return meaning_of(int(number.group(1)))
    if code == "INTERNAL_ERROR" and any(_NOT_A_VHD.search(text) for text in params):
        return _NO_DELTA
    return MEANINGS.get(code, OTHER)


def from_error_info(info: object, *, method: str = "") -> XapiFailure:
    """The exception for ``[code, parameters…]``, as in a v1 answer or a task's ``error_info``."""
    if isinstance(info, list) and info:
        return failure(info[0], info[1:], method=method)
    return failure("INTERNAL_ERROR", [f"the host reported a failure without a code: {info!r}"], method=method)


def from_text(text: str, *, method: str = "") -> XapiFailure | None:
    """The failure an error page speaks of, if it names a code we know (``Server_error(CODE, [ a; b ])``)."""
    for found in _IN_TEXT.finditer(text):
        code, listed = found.group(1), found.group(2)
        if code in MEANINGS or _SM_CODE.fullmatch(code):
            params = [part.strip() for part in listed.split(";")] if listed else []
            return failure(code, [part for part in params if part] or [text], method=method)
    return None


def full_needed(error: XapiError, *, base: Iterable[str] = ()) -> bool:
    """Whether ``error`` of a delta export says that its base (by ref, uuid) cannot be used but a full can."""
    if isinstance(error, errors.FullNeeded):
        return True
    if not isinstance(error, errors.NotFound):
        return False
    names = {name for name in base if name}
    return any(name in param for name in names for param in error.params)


def _plain(param: object) -> str:
    """A parameter as text that can be printed and stored anywhere."""
    text = param if isinstance(param, str) else str(param)
    return text.encode("utf-8", "replace").decode("utf-8")


def _sentence(code: str, params: tuple[str, ...], meaning: Meaning) -> str:
    if meaning.cls is errors.SessionInvalid:
        return f"{code} (the session is not known any more)"  # its parameter is the session itself
    if meaning.cls is errors.NotFound and params and params[0].lower() == "session":
        return f"{code} (session)"
    if meaning.cls is errors.LoginError:
        return f"{code} (user {clean_text(params[0])})" if params and params[0] else code
    matched = _SM_CODE.fullmatch(code)
    if matched:
        said = clean_text(" ".join(part for part in params[1:] if part))
        said = said or DESCRIPTIONS.get(int(matched.group(1)), "no description given")
        return f"{code} ({said})"
    shown = []
    for position, param in enumerate(params):
        label = f"{meaning.params[position]} " if position < len(meaning.params) else ""
        shown.append(label + (clean_text(param) or '""'))
    return f"{code} ({', '.join(shown)})" if shown else code
