"""Words that must not leave, taken out of whatever is about to: as they are, and in the disguises that programs give
them. Pure.

The last line of defence, behind never writing them down. What is shorter than :data:`SHORTEST` is not looked for (it
would be found everywhere): whoever builds something says so.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from urllib.parse import quote, quote_plus

SHORTEST = 4
SHORTEST_CODED = 6
"""Of what is looked for in base64 and in hexadecimal: pieces of shorter words are found by chance."""
MARKS = (b"(removed)", b"[---]", b"")
"""What is put in their place: the first that is no part of a word, and of which none is a part."""


class Scrubber:
    """``values``: words by what they are. :attr:`removed` counts, by that, what was found."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.removed: Counter[str] = Counter()
        self.too_short = sorted(name for name, value in values.items() if len(value.encode()) < SHORTEST)
        self._of: dict[bytes, str] = {}
        for name, value in values.items():
            if name not in self.too_short:
                for form in forms(value):
                    self._of.setdefault(form, name)
        self._mark_of_all = next(mark for mark in MARKS if not any(mark and (form in mark) for form in self._of))

    def clean(self, data: bytes) -> bytes:
        """``data`` without them."""
        while present := [form for form in self._of if form in data]:  # what is beside a mark may be one with it
            longest_first = sorted(present, key=lambda form: (-len(form), form))
            data = re.sub(b"|".join(map(re.escape, longest_first)), self._mark, data)
        return data

    def clean_text(self, text: str) -> str:
        return self.clean(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")

    def clean_data(self, value: object) -> object:
        """JSON data, keys included."""
        if isinstance(value, str):
            return self.clean_text(value)
        if isinstance(value, Mapping):
            return {self.clean_text(str(key)): self.clean_data(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.clean_data(one) for one in value]
        return value

    def holds(self, data: bytes) -> list[str]:
        """Which of them are in ``data``."""
        return sorted({name for form, name in self._of.items() if form in data})

    def _mark(self, found: re.Match[bytes]) -> bytes:
        self.removed[self._of[found[0]]] += 1
        return self._mark_of_all


def forms(value: str) -> set[bytes]:
    """How a word may be written: plain, escaped for JSON (twice too), Python, HTML, URLs and shells, in hexadecimal,
    in base64 whatever comes before it; the lines of a long one each."""
    found: set[str] = set()
    words = {value, value.strip(), *(line.strip() for line in value.splitlines())}
    for word in words:
        if len(word.encode()) >= SHORTEST:
            found |= set(_written(word))
    return {form.encode("utf-8", "surrogatepass") for form in found}


def _written(word: str) -> Iterator[str]:
    yield word
    for ascii_only in (True, False):
        once = json.dumps(word, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once, ensure_ascii=ascii_only)[1:-1]
    yield repr(word)[1:-1]
    yield html.escape(word)
    yield shlex.quote(word)
    for coded in (quote(word, safe=""), quote(word), quote_plus(word)):
        yield coded
        yield re.sub(r"%[0-9A-F]{2}", lambda one: one[0].lower(), coded)
    raw = word.encode("utf-8", "surrogatepass")
    if len(raw) >= SHORTEST_CODED:
        yield raw.hex()
        yield raw.hex().upper()
        yield from _base64(raw)


def _base64(raw: bytes) -> Iterator[str]:
    """What is the same of it whatever comes before and after."""
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        begin = (0, 2, 3)[shift]
        end = len(coded) if (shift + len(raw)) % 3 == 0 else len(coded) - 1
        yield coded[begin:end]
        yield coded[begin:end].translate(str.maketrans("+/", "-_"))
