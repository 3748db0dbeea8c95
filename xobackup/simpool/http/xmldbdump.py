"""``/pool/xmldbdump``: the whole database as XML, out and in.

GET has no length, no type, and contains secrets. PUT needs a length; ``dry_run=true`` only says whether it would
work, otherwise the master restarts into what it was given: sessions and connections end.

Rows carry xapi's own columns: ``ref``, ``__ctime``, ``__mtime``, and ``name__label`` for the field ``name_label``.
Sets and maps are JSON here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from xobackup.simpool.failures import Failure
from xobackup.simpool.faults import ConnectionLost
from xobackup.simpool.http import transfer
from xobackup.simpool.http.wire import Disconnected
from xobackup.simpool.model import load_model
from xobackup.simpool.state import NOT_KEPT

if TYPE_CHECKING:
    from xobackup.simpool.http.wire import Connection, Request
    from xobackup.simpool.toolstack import Toolstack
    from xobackup.simpool.values import Type

BODY_MAX_BYTES = 64 << 20
SCHEMA = "5"
SCHEMA_MINOR = "785"
COLUMNS = {"name_label": "name__label", "name_description": "name__description"}
FIELDS = {column: name for name, column in COLUMNS.items()}
PIECE_BYTES = 64 << 10
Tables = dict[str, dict[str, dict[str, Any]]]


class BadDump(Exception):
    """The text is no dump of a database that this pool understands."""


class DumpDatabase:
    """GET."""

    def __init__(self, toolstack: Toolstack) -> None:
        self._toolstack = toolstack

    def __call__(self, request: Request, connection: Connection) -> bool:
        toolstack = self._toolstack
        try:
            transfer.authenticate(toolstack, request, connection)
        except transfer.Refused:
            return False
        task = transfer.adopt_task(toolstack, request, "Dumping the database")
        connection.answer("200 OK", transfer.CLOSING)
        try:
            self._send(connection, dump(toolstack))
            toolstack.tasks.succeed(task, "")
        except Failure as failure:
            toolstack.tasks.fail(task, failure)
            transfer.say_inside_body(connection, failure)
        except (Disconnected, ConnectionLost) as error:
            toolstack.tasks.fail(task, Failure("INTERNAL_ERROR", "Unix.Unix_error(Unix.EPIPE, write, )"))
            if isinstance(error, ConnectionLost):
                connection.reset()
        return False

    def _send(self, connection: Connection, body: bytes) -> None:
        fault = self._toolstack.faults.take("break", "dump")
        connection.begin_body()
        for start in range(0, len(body), PIECE_BYTES):
            piece = body[start : start + PIECE_BYTES]
            if fault is not None and start + len(piece) > fault.after_bytes:
                transfer.break_off(connection, piece[: max(0, fault.after_bytes - start)], fault)
                return
            connection.send(piece)


class RestoreDatabase:
    """PUT."""

    def __init__(self, toolstack: Toolstack) -> None:
        self._toolstack = toolstack

    def __call__(self, request: Request, connection: Connection) -> bool:
        toolstack, length = self._toolstack, request.content_length
        try:
            transfer.authenticate(toolstack, request, connection)
            task = transfer.adopt_task(toolstack, request, "Restoring the database")
            if length is None or length > BODY_MAX_BYTES:
                refusal = Failure("INTERNAL_ERROR", "a length of at most 64 MiB is needed")
                raise transfer.refuse_late(connection, toolstack, task, "400 Bad Request", refusal)
        except transfer.Refused:
            return False
        connection.answer("200 OK", (*transfer.CLOSING, f"task-id:{task}"))
        try:
            body = connection.read_exactly(length)
            if len(body) < length:
                raise BadDump(f"{length} bytes announced, {len(body)} received")
            tables = parse(body)
        except BadDump as error:
            toolstack.tasks.fail(task, Failure("RESTORE_INCOMPATIBLE_VERSION"))
            toolstack.journal.note("PUT /pool/xmldbdump", [], at_s=0.0, duration_s=0.0, outcome=str(error))
            return False
        toolstack.tasks.succeed(task, "")
        if request.param("dry_run") != "true":
            connection.close()
            toolstack.restart_into(tables)
        return False


def dump(toolstack: Toolstack) -> bytes:
    """Every table with every row; fields are attributes, sets and maps in them JSON."""
    database = toolstack.database
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<database>"]
    with database.lock:
        manifest = {
            "schema_major_vsn": SCHEMA,
            "schema_minor_vsn": SCHEMA_MINOR,
            "generation_count": str(database.generation),
        }
        pairs = "".join(f'<pair key="{key}" value="{value}"/>' for key, value in manifest.items())
        lines.append(f"<manifest>{pairs}</manifest>")
        for cls, rows in database.rows.items():
            lines.append(f"<table name={quoteattr(cls)}>")
            for ref, row in rows.items() if cls not in NOT_KEPT else ():
                fields = " ".join(
                    f"{COLUMNS.get(name, name)}={quoteattr(_text(value))}" for name, value in row.record.items()
                )
                times = f'__ctime="{row.created}" __mtime="{row.modified}"'
                lines.append(f"<row ref={quoteattr(ref)} {times} {fields}/>")
            lines.append("</table>")
    lines.append("</database>")
    return "\n".join(lines).encode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def parse(body: bytes) -> Tables:
    """The tables of a dump. Raises :class:`BadDump`."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, KeyError) as error:
        raise BadDump(f"no dump of a database: {error}") from error
    if reader.schema != SCHEMA or not reader.tables.get("pool") or not reader.tables.get("host"):
        raise BadDump(f"schema {SCHEMA} with a pool expected, found schema {reader.schema or 'none'}")
    return reader.tables


class _Reader:
    def __init__(self) -> None:
        self.schema = ""
        self.tables: Tables = {}
        self._table = ""

    def refuse(self, *_declaration: object) -> None:
        raise ValueError("a document type is not taken")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "pair" and attributes["key"] == "schema_major_vsn":
            self.schema = attributes["value"]
        elif tag == "table":
            self._table = attributes["name"]
            self.tables[self._table] = {}
        elif tag == "row" and self._table not in NOT_KEPT:
            fields = load_model()[self._table].fields
            named = {FIELDS.get(column, column): text for column, text in attributes.items()}
            record = {name: _value(text, fields[name].type) for name, text in named.items() if name in fields}
            if len(record) != len(fields):
                raise ValueError(f"a {self._table} has {len(fields)} fields, found {len(record)}")
            self.tables[self._table][attributes["ref"]] = record


def _value(text: str, kind: Type) -> Any:
    return json.loads(text) if kind.kind in ("int", "float", "bool", "set", "map") else text
