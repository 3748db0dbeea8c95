"""The pool's database: records of every class, linked, numbered by generation, safe for many threads.

Invariants:
- a derived set (``VM.VBDs``) always equals the set of objects whose reference names its owner;
- no reference survives the object it names: dependants go with it, other references become null;
- every change gives the record a new generation, the database's highest, and wakes whoever waits for events.

One lock guards everything. A caller that needs several steps to be one holds ``lock`` around them.
"""

from __future__ import annotations

import random
import threading
import uuid as uuids
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.simpool.failures import Failure
from xobackup.simpool.model import WITHOUT_RECORDS, ClassModel, load_model
from xobackup.simpool.relations import CASCADES, LINKS, OWNED
from xobackup.simpool.values import NULL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Record = dict[str, Any]
DELETED_MAX = 20_000
"""How many deletions are remembered for events; an older token sees the object vanish from the counts only."""


@dataclass(slots=True)
class Row:
    """One object with the generations of its creation and of its last change."""

    record: Record
    created: int
    modified: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """An object that is gone."""

    cls: str
    ref: str
    created: int
    deleted: int


class Database:
    """All records of one pool."""

    def __init__(self, rng: random.Random) -> None:
        self.model: dict[str, ClassModel] = load_model()
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.generation = 0
        self.deletions: deque[Deletion] = deque(maxlen=DELETED_MAX)
        self.rows: dict[str, dict[str, Row]] = {name: {} for name in self.model if name not in WITHOUT_RECORDS}
        self.newest: dict[str, int] = dict.fromkeys(self.rows, 0)
        self._uuids: dict[str, dict[str, str]] = {name: {} for name in self.rows}
        self._rng = rng

    # -- reading

    def row(self, cls: str, ref: str) -> Row:
        """The object itself. Raises ``HANDLE_INVALID``."""
        row = self.rows.get(cls, {}).get(ref)
        if row is None:
            raise Failure("HANDLE_INVALID", cls, ref)
        return row

    def get(self, cls: str, ref: str) -> Record:
        """The live record, to be read under the lock and changed only through :meth:`update`."""
        return self.row(cls, ref).record

    def copy(self, cls: str, ref: str) -> Record:
        """A copy of the record that may be kept."""
        with self.lock:
            return copy_record(self.get(cls, ref))

    def exists(self, cls: str, ref: str) -> bool:
        return ref in self.rows.get(cls, ())

    def refs(self, cls: str) -> list[str]:
        """References of all objects of ``cls``, oldest first."""
        with self.lock:
            return list(self.rows[cls])

    def records(self, cls: str) -> dict[str, Record]:
        """Copies of all records of ``cls``."""
        with self.lock:
            return {ref: copy_record(row.record) for ref, row in self.rows[cls].items()}

    def where(self, table: str, /, **fields: Any) -> Iterator[tuple[str, Record]]:
        """Objects of ``table`` whose fields equal the given ones; to be used under the lock."""
        for ref, row in list(self.rows[table].items()):
            if all(row.record[name] == value for name, value in fields.items()):
                yield ref, row.record

    def by_uuid(self, cls: str, uuid: str) -> str:
        """Raises ``UUID_INVALID``."""
        with self.lock:
            ref = self._uuids.get(cls, {}).get(uuid)
        if ref is None:
            raise Failure("UUID_INVALID", cls, uuid)
        return ref

    def find(self, cls: str, ref_or_uuid: str) -> str:
        """The reference of an object named either way, as HTTP handlers accept it."""
        if ref_or_uuid.startswith("OpaqueRef:"):
            self.row(cls, ref_or_uuid)
            return ref_or_uuid
        return self.by_uuid(cls, ref_or_uuid)

    # -- changing

    def new_uuid(self) -> str:
        return str(uuids.UUID(int=self._rng.getrandbits(128), version=4))

    def new_ref(self) -> str:
        return f"OpaqueRef:{self.new_uuid()}"

    def create(self, cls: str, fields: Record, *, ref: str | None = None) -> str:
        """Make an object; fields not given get the model's defaults, ``uuid`` a new one."""
        with self.lock:
            ref = ref or self.new_ref()
            record = self.model[cls].defaults()
            record.update(copy_record(fields))
            record["uuid"] = record.get("uuid") or self.new_uuid()
            if record["uuid"] in self._uuids[cls]:
                raise Failure("DB_UNIQUENESS_CONSTRAINT_VIOLATION", cls, "uuid", record["uuid"])
            generation = self._advance(cls)
            self.rows[cls][ref] = Row(record, generation, generation)
            self._uuids[cls][record["uuid"]] = ref
            for name in record:
                self._link(cls, ref, name, record[name], add=True)
            return ref

    def update(self, cls: str, ref: str, **fields: Any) -> None:
        """Set fields. Equal values change nothing and wake nobody."""
        with self.lock:
            row = self.row(cls, ref)
            changes = {name: value for name, value in fields.items() if row.record[name] != value}
            for name, value in changes.items():
                self._link(cls, ref, name, row.record[name], add=False)
                row.record[name] = _copy_value(value)
                self._link(cls, ref, name, value, add=True)
            if changes:
                self.touch(cls, ref)

    def set_key(self, cls: str, ref: str, field: str, key: str, value: Any) -> None:
        """Set one key of a map field; ``None`` removes it."""
        with self.lock:
            changed = dict(self.get(cls, ref)[field])
            if value is None:
                changed.pop(key, None)
            else:
                changed[key] = value
            self.update(cls, ref, **{field: changed})

    def touch(self, cls: str, ref: str) -> int:
        """Count the object as modified; return the new generation."""
        with self.lock:
            row = self.row(cls, ref)
            row.modified = self._advance(cls)
            return row.modified

    def destroy(self, cls: str, ref: str) -> None:
        """Remove an object with its dependants; references to it become null."""
        with self.lock:
            record = self.get(cls, ref)
            for child, field in CASCADES.get(cls, ()):
                for child_ref, _ in list(self.where(child, **{field: ref})):
                    self.destroy(child, child_ref)
            for owned, field in OWNED.get(cls, ()):
                if self.exists(owned, record[field]):
                    self.destroy(owned, record[field])
            for name in record:
                self._link(cls, ref, name, record[name], add=False)
            row = self.rows[cls].pop(ref)
            self._uuids[cls].pop(row.record["uuid"], None)
            self._forget_references(cls, ref)
            generation = self._advance(cls)
            self.deletions.append(Deletion(cls=cls, ref=ref, created=row.created, deleted=generation))

    # -- inside

    def _advance(self, cls: str) -> int:
        self.generation += 1
        self.newest[cls] = self.generation
        self.changed.notify_all()
        return self.generation

    def _link(self, cls: str, ref: str, field: str, target: Any, *, add: bool) -> None:
        link = LINKS.get((cls, field))
        if link is None or target == NULL:
            return
        other, backward = link
        row = self.rows[other].get(target)
        if row is None:
            return
        members: list[str] = row.record[backward]
        if add and ref not in members:
            members.append(ref)
        elif not add and ref in members:
            members.remove(ref)
        self.touch(other, target)

    def _forget_references(self, cls: str, ref: str) -> None:
        for other, model in self.model.items():
            if other in WITHOUT_RECORDS or other in ("session", "task"):
                continue
            names = [n for n, f in model.fields.items() if f.type.kind == "ref" and f.type.name == cls]
            for name in names:
                for holder, _ in list(self.where(other, **{name: ref})):
                    self.update(other, holder, **{name: NULL})

    def index(self) -> None:
        """Rebuild what is derived from ``rows`` after they were loaded from elsewhere."""
        with self.lock:
            for cls, rows in self.rows.items():
                self._uuids[cls] = {row.record["uuid"]: ref for ref, row in rows.items()}
                self.newest[cls] = max((row.modified for row in rows.values()), default=0)

    def wait(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until ``ready`` holds; it is asked under the lock after every change."""
        with self.changed:
            return self.changed.wait_for(ready, timeout_s)


def copy_record(record: Record) -> Record:
    """A copy deep enough for records: their values are scalars, lists and maps of scalars."""
    return {name: _copy_value(value) for name, value in record.items()}


def _copy_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy_value(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, list) else value
