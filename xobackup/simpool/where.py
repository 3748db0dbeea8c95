"""The little language of ``get_all_records_where``.

    expression = "true" | 'field "name__label" = "value"' | "not" expression
               | "(" expression {"and" | "or" expression} ")"

Field names are the database's (``name__label``), values its text form (booleans ``true``/``false``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from xobackup.simpool.failures import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    Test = Callable[[dict[str, Any]], bool]

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[()=]|\w+)')


def parse_where(text: str) -> Test:
    """A predicate over records. Raises ``INVALID_VALUE`` for what cannot be parsed."""
    tokens = _tokens(text)
    parser = _Parser(text, tokens)
    try:
        test = parser.expression()
    except RecursionError:
        raise parser.wrong() from None
    if parser.rest:
        raise parser.wrong()
    return test


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise Failure("INVALID_VALUE", "expr", text)
        tokens.append(found[1])
        position = found.end()
    return tokens


class _Parser:
    def __init__(self, text: str, tokens: list[str]) -> None:
        self.text = text
        self.rest = tokens

    def wrong(self) -> Failure:
        return Failure("INVALID_VALUE", "expr", self.text)

    def take(self, expected: str | None = None) -> str:
        if not self.rest or (expected is not None and self.rest[0] != expected):
            raise self.wrong()
        return self.rest.pop(0)

    def expression(self) -> Test:
        left = self.single()
        while self.rest and self.rest[0] in ("and", "or"):
            joint, right = self.take(), self.single()
            left = _both(left, right) if joint == "and" else _either(left, right)
        return left

    def single(self) -> Test:
        word = self.take()
        if word == "true":
            return lambda _record: True
        if word == "false":
            return lambda _record: False
        if word == "not":
            inner = self.single()
            return lambda record: not inner(record)
        if word == "(":
            inner = self.expression()
            self.take(")")
            return inner
        if word == "field":
            name = self.take().strip('"').replace("__", "_")
            self.take("=")
            return _equals(name, self.take().strip('"'))
        raise self.wrong()


def _both(left: Test, right: Test) -> Test:
    return lambda record: left(record) and right(record)


def _either(left: Test, right: Test) -> Test:
    return lambda record: left(record) or right(record)


def _equals(name: str, text: str) -> Test:
    return lambda record: _as_text(record.get(name)) == text


def _as_text(value: Any) -> str:
    """A value as the database keeps it: ``('a' 'b')`` is a set, ``(('k' 'v'))`` a map."""
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "(" + " ".join(f"'{_as_text(one)}'" for one in value) + ")"
        case dict():
            return "(" + " ".join(f"('{key}' '{_as_text(one)}')" for key, one in value.items()) + ")"
    return str(value)
