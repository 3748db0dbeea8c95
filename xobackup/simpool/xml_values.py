"""Values in XAPI's XML-RPC dialect, both ways: what a call returns or a task keeps, and what a client sends.

    type                  sent as                              taken as
    int                   untyped text, ``<value>12</value>``  text, ``int``, ``i4``, ``i8``
    bool, float           ``boolean``, ``double``              the same, nothing else
    datetime              ``dateTime.iso8601``                 the same, or text
    string, ref, enum     untyped text                         text, ``string``
    set, map, record      ``array``, ``struct``                the same; members of a record by its class

Reading takes no document type and no entities of its own, so that a small body cannot grow in memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape

from xobackup.simpool.model import class_names, load_model
from xobackup.simpool.values import Type, parse_type

DEPTH_MAX = 64
_SCALARS = frozenset({"string", "int", "i4", "i8", "boolean", "double", "dateTime.iso8601", "base64", "nil"})
_TEXT = re.compile(r"-?[0-9]{1,19}")
_EVENTS = parse_type("event record set")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def result_text(value: Any, returns: str) -> str:
    """A task's ``result``: the returned value as XML-RPC text; nothing for void."""
    return "" if returns == "void" or value is None else xml_value(value, parse_type(returns))


def xml_value(value: Any, kind: Type) -> str:
    """``value`` as one ``<value>``: integers travel as strings."""
    return f"<value>{_inside(value, kind)}</value>"


def _inside(value: Any, kind: Type) -> str:
    match kind.kind:
        case "bool":
            return f"<boolean>{int(value)}</boolean>"
        case "float":
            return f"<double>{value:.16g}</double>"
        case "datetime":
            return f"<dateTime.iso8601>{_escape(value)}</dateTime.iso8601>"
        case "set":
            items = "".join(xml_value(item, kind.of[0]) for item in value)
            return f"<array><data>{items}</data></array>"
        case "map":
            return _struct({str(key): xml_value(item, kind.of[1]) for key, item in value.items()})
        case "record":
            return _record(value, kind.name)
        case "an event batch":
            return _batch(value)
    return "" if value is None else _escape(str(value))


def _record(value: dict[str, Any], name: str) -> str:
    """A record by the types of its class; an event carries another class's record, and numbers as text."""
    if name == "event":
        return _event(value)
    fields = load_model()[name].fields
    return _struct({key: xml_value(item, fields[key].type) for key, item in value.items()})


def _event(value: dict[str, Any]) -> str:
    members = {key: f"<value>{_escape(str(item))}</value>" for key, item in value.items() if key != "snapshot"}
    if "snapshot" in value:
        members["snapshot"] = xml_value(value["snapshot"], Type(kind="record", name=class_names()[value["class"]]))
    return _struct(members)


def _batch(value: dict[str, Any]) -> str:
    counts = {name: f"<value><i4>{count}</i4></value>" for name, count in value["valid_ref_counts"].items()}
    return _struct(
        {
            "events": xml_value(value["events"], _EVENTS),
            "valid_ref_counts": f"<value>{_struct(counts)}</value>",
            "token": f"<value>{_escape(value['token'])}</value>",
        }
    )


def _struct(members: dict[str, str]) -> str:
    inside = "".join(f"<member><name>{_escape(key)}</name>{value}</member>" for key, value in members.items())
    return f"<struct>{inside}</struct>"


def _escape(text: str) -> str:
    return escape(_UNPRINTABLE.sub("?", text))


# -- what clients send


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar that was sent without a type, or as a string."""

    text: str


@dataclass(frozen=True, slots=True)
class Date:
    """A ``dateTime.iso8601``."""

    text: str


class MalformedXml(Exception):
    """The body is no XML-RPC call."""


def plain(value: Any) -> Any:
    """A value whose type nobody knows: scalars as they were sent."""
    if isinstance(value, Text | Date):
        return value.text
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def typed(value: Any, kind: Type) -> Any:
    """What a client sent, as JSON-RPC would have sent it for ``kind``; what does not fit stays as it is."""
    if kind.kind == "option":
        return typed(value, kind.of[0])
    if isinstance(value, Text):
        return int(value.text) if kind.kind == "int" and _TEXT.fullmatch(value.text) else value.text
    if isinstance(value, list) and kind.kind == "set":
        return [typed(item, kind.of[0]) for item in value]
    if isinstance(value, dict) and kind.kind == "map":
        return {key: typed(item, kind.of[1]) for key, item in value.items()}
    if isinstance(value, dict) and kind.kind == "record" and kind.name in load_model():
        fields = load_model()[kind.name].fields
        return {key: typed(item, fields[key].type) if key in fields else plain(item) for key, item in value.items()}
    return plain(value)


def read_call(body: bytes) -> tuple[str, list[Any]]:
    """Method and parameters of a ``methodCall``; text comes as :class:`Text`. Raises :class:`MalformedXml`."""
    reader = _parse(body, _Reader("methodCall"))
    if reader.method is None:
        raise MalformedXml("malformed XML-RPC: no methodName")
    return reader.method, reader.params


def read_value(text: bytes) -> Any:
    """What a lone ``<value>`` holds, as a task's result or an archive's description. Raises :class:`MalformedXml`."""
    return _parse(text, _Reader("value")).value


def _parse(body: bytes, reader: _Reader) -> _Reader:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError, TypeError) as error:
        raise MalformedXml(f"malformed XML-RPC: {error}") from error
    return reader


@dataclass(slots=True)
class _Open:
    """An element that is not closed yet."""

    tag: str
    text: str = ""
    value: Any = None
    items: list[Any] = field(default_factory=list)
    members: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    filled: bool = False


class _Reader:
    """Builds the call from the parser's events."""

    def __init__(self, outermost: str) -> None:
        self._outermost = outermost
        self.value: Any = None
        self.method: str | None = None
        self.params: list[Any] = []
        self._stack: list[_Open] = []

    def refuse(self, *_declaration: object) -> None:
        raise ValueError("a document type is not taken")

    def start(self, tag: str, _attributes: dict[str, str]) -> None:
        if len(self._stack) >= DEPTH_MAX:
            raise ValueError("nested too deep")
        if not self._stack and tag != self._outermost:
            raise ValueError(f"<{self._outermost}> expected, found <{tag}>")
        self._stack.append(_Open(tag))

    def characters(self, text: str) -> None:
        self._stack[-1].text += text

    def end(self, tag: str) -> None:
        done = self._stack.pop()
        above = self._stack[-1] if self._stack else _Open("")
        if tag == "methodName":
            self.method = done.text.strip()
        elif tag == "value" and not self._stack:
            self.value = done.value if done.filled else Text(done.text)
        elif tag == "value":
            self._give(above, done.value if done.filled else Text(done.text))
        elif tag == "name":
            above.name = done.text
        elif tag == "member":
            above.members[done.name] = done.value
        elif tag == "data":
            above.items = done.items
        elif tag == "array":
            above.value, above.filled = done.items, True
        elif tag == "struct":
            above.value, above.filled = done.members, True
        elif tag in _SCALARS:
            above.value, above.filled = _scalar(tag, done.text), True
        elif tag not in ("methodCall", "params", "param"):
            raise ValueError(f"<{tag}> means nothing here")

    def _give(self, above: _Open, value: Any) -> None:
        if above.tag == "param":
            self.params.append(value)
        elif above.tag == "data":
            above.items.append(value)
        elif above.tag == "member":
            above.value = value
        else:
            raise ValueError(f"<value> inside <{above.tag}>")


def _scalar(tag: str, text: str) -> Any:
    match tag:
        case "int" | "i4" | "i8":
            return int(text)
        case "boolean":
            return {"0": False, "1": True}[text.strip()]
        case "double":
            return float(text)
        case "dateTime.iso8601":
            return Date(text.strip())
        case "nil":
            return None
    return Text(text)
