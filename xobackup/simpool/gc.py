"""The storage manager's garbage collector: hidden nodes go, merge into their parents, or become their only leaf.

Per repository, in small steps until nothing is left to do:
- *garbage*: a hidden node without children is deleted;
- *coalesce*: a hidden node with children that is its parent's only child is merged into it (tallest
  first), its children move to the parent;
- *leaf coalesce*: a visible leaf that is the only child of its hidden parent takes the parent's place; an
  attached one only while its own data is small (or its ``leaf-coalesce`` is ``force``).

``coalesce`` or ``gc`` = ``false`` in the repository's other_config, ``leaf-coalesce`` = ``false`` in the disk's,
stop it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vhd.block import BLOCK_BYTES
from xobackup.simpool.disks import refresh_disks
from xobackup.simpool.storage.store import StorageFull

if TYPE_CHECKING:
    from xobackup.simpool.storage.store import SrStore
    from xobackup.simpool.toolstack import Toolstack

NO_SPACE = "SM_GC_NO_SPACE"
LIVE_LEAF_MAX_BYTES = 20 << 20
StepKind = Literal["garbage", "coalesce", "leaf-coalesce"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do to the tree: ``node`` is removed as a file of its own, ``into`` takes its data."""

    kind: StepKind
    node: str
    into: str = ""


def next_step(toolstack: Toolstack, sr: str, skipped: frozenset[str] = frozenset()) -> Step | None:
    """What the collector would do next, or ``None``. To be called under the database's lock."""
    other = toolstack.database.get("SR", sr)["other_config"]
    if other.get("gc") == "false":
        return None
    store = toolstack.stores[sr]
    children = {uuid: store.children(uuid) for uuid in store.uuids()}
    for uuid, below in children.items():
        if store.node(uuid).hidden and not below:
            return Step(kind="garbage", node=uuid)
    if other.get("coalesce") == "false":
        return None
    return _coalescible(store, children, skipped) or _leaf(toolstack, sr, store, children, skipped)


def _coalescible(store: SrStore, children: dict[str, list[str]], skipped: frozenset[str]) -> Step | None:
    found = [
        Step(kind="coalesce", node=uuid, into=parent)
        for uuid, below in children.items()
        if below
        and uuid not in skipped
        and store.node(uuid).hidden
        and (parent := store.parent(uuid)) is not None
        and store.node(parent).hidden
        and children[parent] == [uuid]
    ]
    return max(found, key=lambda step: _height(step.node, children), default=None)


def _height(uuid: str, children: dict[str, list[str]]) -> int:
    return 1 + max((_height(child, children) for child in children[uuid]), default=0)


def _leaf(
    toolstack: Toolstack, sr: str, store: SrStore, children: dict[str, list[str]], skipped: frozenset[str]
) -> Step | None:
    database = toolstack.database
    for vdi in database.get("SR", sr)["VDIs"]:
        record = database.get("VDI", vdi)
        uuid, wish = record["uuid"], record["other_config"].get("leaf-coalesce")
        if uuid not in store or uuid in skipped or children[uuid] or store.node(uuid).hidden:
            continue
        parent = store.parent(uuid)
        if parent is None or not store.node(parent).hidden or children[parent] != [uuid]:
            continue
        if wish == "false" or record["on_boot"] == "reset" or record["allow_caching"]:
            continue
        attached = any(database.get("VBD", vbd)["currently_attached"] for vbd in record["VBDs"])
        if attached and wish != "force" and store.node(uuid).data_bytes >= LIVE_LEAF_MAX_BYTES:
            continue
        return Step(kind="leaf-coalesce", node=uuid, into=parent)
    return None


def apply_step(toolstack: Toolstack, sr: str, step: Step) -> None:
    """Carry out one step, on the storage and in the database. To be called under the database's lock."""
    store, database = toolstack.stores[sr], toolstack.database
    touched: list[str] = []
    with store.lock:
        if step.kind == "garbage":
            store.destroy(step.node)
            gone = step.node
        elif step.kind == "coalesce":
            _merge(store, step.node, step.into)
            for child in store.children(step.node):
                store.relink(child, step.into)
                touched.append(child)
            store.destroy(step.node)
            gone = step.node
            touched.append(step.into)
        else:
            _merge(store, step.node, step.into)
            store.take_over(step.node, step.into)
            gone = step.into
            touched.append(step.node)
        database.destroy("VDI", database.by_uuid("VDI", gone))
        refresh_disks(toolstack, sr, [database.by_uuid("VDI", uuid) for uuid in touched])


def _merge(store: SrStore, child: str, parent: str) -> None:
    source, target = store.node(child), store.node(parent)
    buffer = memoryview(bytearray(BLOCK_BYTES))
    if source.size_bytes > target.size_bytes:
        target.resize(source.size_bytes)
    with source.pinned(), target.pinned():
        for index in source.bat.allocated():
            store.merge_block(source, target, index, buffer)


def collect(toolstack: Toolstack, sr: str) -> list[Step]:
    """Work until nothing is left to do; return the steps made. A node that does not fit is left for later."""
    done: list[Step] = []
    skipped: set[str] = set()
    while not toolstack.closing.is_set():
        with toolstack.database.lock:
            step = next_step(toolstack, sr, frozenset(skipped))
            if step is None:
                break
            try:
                apply_step(toolstack, sr, step)
            except StorageFull:
                skipped.add(step.node)
                _complain(toolstack, sr)
                continue
            done.append(step)
    if done:
        toolstack.storage_changed(sr)
    return done


def _complain(toolstack: Toolstack, sr: str) -> None:
    """Tell the operator, once, that there is no room to coalesce."""
    database = toolstack.database
    uuid = database.get("SR", sr)["uuid"]
    if any(True for _ in database.where("message", name=NO_SPACE, obj_uuid=uuid)):
        return
    text = "Unable to perform data coalesce due to a lack of space in SR"
    message = {"name": NO_SPACE, "priority": 3, "cls": "SR", "obj_uuid": uuid, "body": text}
    database.create("message", {**message, "timestamp": toolstack.now_text()})


class Collector:
    """Collects a repository's garbage once nothing has been destroyed in it for a while."""

    def __init__(self, toolstack: Toolstack, quiet_s: float) -> None:
        self._toolstack = toolstack
        self._quiet_s = quiet_s
        self._due: dict[str, float] = {}
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="simpool-gc", daemon=True)
        toolstack.on_storage.append(self.kick)

    def start(self) -> None:
        self._thread.start()

    def kick(self, sr: str) -> None:
        with self._wake:
            self._due[sr] = self._toolstack.clock.monotonic_s() + self._quiet_s
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(10)

    def _work(self) -> None:
        while (sr := self._next()) is not None:
            collect(self._toolstack, sr)

    def _next(self) -> str | None:
        with self._wake:
            while not self._closed:
                now = self._toolstack.clock.monotonic_s()
                ripe = [sr for sr, due in self._due.items() if due <= now]
                if ripe:
                    del self._due[ripe[0]]
                    return ripe[0]
                pause = min((due - now for due in self._due.values()), default=None)
                self._wake.wait(pause)
            return None
