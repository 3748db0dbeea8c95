"""A dump of a pool's database, read as it arrives: is it whole, and whose is it?

    <database>
      <manifest> <pair key="schema_major_vsn" value="5"/> <pair key="generation_count" value="…"/> </manifest>
      <table name="pool"> <row ref="OpaqueRef:…" uuid="…" name__label="…" …/> </table>
      …one table per class
    </database>

:class:`DumpReader` takes the bytes in pieces and keeps a summary; any bytes raise only :class:`BadDump`. Bounds: the
whole (:data:`DUMP_BYTES_MAX`), one tag (:data:`TAG_BYTES_MAX`; a row is one tag), the names that are kept
(:data:`NAMES_MAX`), and no document type, so that no entity of the document's own exists.

A pool writes ``name__label`` for the field ``name_label``; both are understood. A dump holds secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from xml.parsers import expat

from xobackup.repository.errors import RepositoryError

DUMP_BYTES_MAX = 2 << 30
"""Far above any pool's: a thousand VMs are some 50 MB."""
TAG_BYTES_MAX = 32 << 20
"""A row is one tag; fields of 300 KiB are XAPI's own limit for a call."""
NAMES_MAX = 100_000
DEPTH_MAX = 4
_TAGS = ({"database"}, {"manifest", "table"}, {"pair", "row"})


class BadDump(RepositoryError):
    """These bytes are no whole dump of a pool's database."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"the dump of the pool's database is bad: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """One object of a dump."""

    uuid: str
    name: str
    ref: str = ""


@dataclass(slots=True, kw_only=True)
class DumpSummary:
    """What a dump holds. ``rows``: how many of each class."""

    schema_major: str = ""
    schema_minor: str = ""
    generation: str = ""
    size_bytes: int = 0
    pool: Named | None = None
    master_ref: str = ""
    hosts: list[Named] = field(default_factory=list)
    srs: list[Named] = field(default_factory=list)
    vms: list[Named] = field(default_factory=list)
    """Virtual machines: no templates, snapshots or control domains."""
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def schema(self) -> str:
        """``5.785``, as far as it is told."""
        return ".".join(part for part in (self.schema_major, self.schema_minor) if part)

    @property
    def master(self) -> Named | None:
        return next((host for host in self.hosts if host.ref == self.master_ref), None)

    def as_data(self) -> dict[str, Any]:
        """JSON data, stable keys."""
        return {**asdict(self), "master": asdict(self.master) if self.master else None}


class DumpReader:
    """See the module's head: :meth:`feed` every piece, then :meth:`finish`."""

    def __init__(self) -> None:
        self.summary = DumpSummary()
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._depth = 0
        self._table = ""
        self._complete = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next piece. Raises :class:`BadDump` as soon as it cannot be a dump any more."""
        piece = bytes(data)
        self.summary.size_bytes += len(piece)
        if self.summary.size_bytes > DUMP_BYTES_MAX:
            raise BadDump(f"expected at most {DUMP_BYTES_MAX} bytes")
        self._parse(piece, last=False)
        if self.summary.size_bytes - max(self._parser.CurrentByteIndex, 0) > TAG_BYTES_MAX + len(piece):
            raise BadDump(f"expected tags of at most {TAG_BYTES_MAX} bytes")

    def finish(self) -> DumpSummary:
        """The summary. Raises :class:`BadDump` when the document is not whole or names no pool."""
        if not self.summary.size_bytes:
            raise BadDump("it is empty")
        self._parse(b"", last=True)
        if not self._complete:
            raise BadDump("it ends before </database>")
        if self.summary.pool is None:
            raise BadDump("it holds no pool")
        if not self.summary.hosts:
            raise BadDump("it holds no host")
        return self.summary

    def _parse(self, data: bytes, *, last: bool) -> None:
        try:
            self._parser.Parse(data, last)
        except expat.ExpatError as error:
            where = f"line {error.lineno}, column {error.offset}"
            raise BadDump(f"not XML, or not to its end: {expat.ErrorString(error.code)} at {where}") from None
        except (ValueError, LookupError) as error:  # an encoding that Python does not know
            raise BadDump(f"not XML: {error}") from None

    def _doctype(self, *_declaration: object) -> None:
        raise BadDump("it declares a document type")

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._depth >= len(_TAGS) or tag not in _TAGS[self._depth]:
            raise BadDump(f"a tag <{tag[:40]}> where none such belongs")
        self._depth += 1
        if tag == "table":
            self._table = attributes.get("name", "")
            if len(self.summary.rows) >= NAMES_MAX:
                raise BadDump(f"expected at most {NAMES_MAX} tables")
            self.summary.rows.setdefault(self._table, 0)
        elif tag == "pair":
            self._pair(attributes.get("key", ""), attributes.get("value", ""))
        elif tag == "row":
            self.summary.rows[self._table] = self.summary.rows.get(self._table, 0) + 1
            self._row(attributes)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if tag == "database":
            self._complete = True

    def _pair(self, key: str, value: str) -> None:
        if key == "schema_major_vsn":
            self.summary.schema_major = value[:20]
        elif key == "schema_minor_vsn":
            self.summary.schema_minor = value[:20]
        elif key in ("generation_count", "generation"):
            self.summary.generation = value[:40]

    def _row(self, row: Mapping[str, str]) -> None:
        summary = self.summary
        named = Named(
            uuid=row.get("uuid", ""),
            name=row.get("name__label", row.get("name_label", "")),
            ref=row.get("ref", ""),
        )
        if self._table == "pool":
            if summary.pool is not None:
                raise BadDump("it holds two pools")
            summary.pool = named
            summary.master_ref = row.get("master", "")
        elif self._table == "host":
            _keep(summary.hosts, named)
        elif self._table == "SR":
            _keep(summary.srs, named)
        elif self._table == "VM" and not any(
            row.get(flag) == "true" for flag in ("is_a_template", "is_a_snapshot", "is_control_domain")
        ):
            _keep(summary.vms, named)


def _keep(names: list[Named], named: Named) -> None:
    if len(names) >= NAMES_MAX:
        raise BadDump(f"expected at most {NAMES_MAX} objects of a class")
    names.append(named)
