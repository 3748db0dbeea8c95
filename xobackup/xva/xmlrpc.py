"""XML-RPC values as XAPI writes them into archives: text, booleans, lists and structs, nothing a DTD could add."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from xobackup.xva.errors import Malformed

DEPTH_MAX = 64


def parse_value(text: bytes) -> Any:
    """The value in ``text``: ``str``, ``bool``, ``list``, ``dict``. Numbers stay text: XAPI's 64-bit ones are."""
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise Malformed("xva-description", "the description declares entities, which XAPI never does")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no DTD in it, checked above
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise Malformed("xva-description", f"the description is not XML: {error}") from None
    return _value(root, 0)


def _value(element: ElementTree.Element, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise Malformed("xva-description", f"the description is nested more than {DEPTH_MAX} deep")
    if len(element) == 0:
        return element.text or ""
    inner = element[0]
    if inner.tag == "array":
        return [_value(item, depth + 1) for item in inner.iterfind("data/value")]
    if inner.tag == "struct":
        found: dict[str, Any] = {}
        for member in inner.iterfind("member"):
            value = member.find("value")
            found[member.findtext("name", "")] = "" if value is None else _value(value, depth + 1)
        return found
    if inner.tag == "boolean":
        return (inner.text or "").strip() == "1"
    return inner.text or ""
