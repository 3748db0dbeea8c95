"""Which disk of a lineage the next backup may continue, and if none, why. Pure decisions over a lineage as read.

Xen Orchestra's rules (it must be able to continue what we continue): the whole chain opens and is linked by uuid; all
its members are of the kind and compression that the remote is set to; the new name sorts after the base's. Ours on
top: only a *published* disk *without children* is a base, because a second child would fork the lineage and the next
merge would destroy one of the two; no merge may be unfinished in its chain; and in VHD directories the disk must not
outgrow the smallest table of the chain (Xen Orchestra's merge would destroy it), nor as files 2040 GiB: larger disks
are directories on every remote.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from vhd.block import BLOCK_BYTES
from vhd.layout import SIZE_MAX_BYTES
from xobackup.repository.layout import is_uuid
from xobackup.repository.lineage import Lineage, MemberDisk
from xobackup.repository.options import as_directory
from xobackup.repository.writer import Base


class NoBase(StrEnum):
    """Why a disk of the remote cannot be continued."""

    EMPTY = "remote-empty"
    NOT_FOUND = "base-not-on-remote"
    NOT_TIP = "base-not-tip"
    UNPUBLISHED = "base-unpublished"
    CHAIN_BROKEN = "chain-broken"
    MERGE_UNFINISHED = "merge-unfinished"
    OTHER_KIND = "other-storage-kind"
    OTHER_CODEC = "other-compression"
    GROWN_PAST_TABLE = "grown-past-table"
    SHRUNK = "shrunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRefusal:
    """No base, and the sentence for a person."""

    code: NoBase
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The newest published disk of a lineage, as the next backup sees it.

    ``snapshot_uuid`` is ``""`` when there is none; ``problem`` says why it cannot be continued; ``size_max_bytes``
    bounds a disk that grew (``None``: no bound); ``known``: restore points name this lineage.
    """

    name: str = ""
    snapshot_uuid: str = ""
    virtual_size_bytes: int = 0
    size_max_bytes: int | None = None
    problem: str = ""
    code: NoBase | None = None
    known: bool = False
    chain_end: str = ""
    """Why its chain must not grow any more, although it is whole: the locks on it end too early."""


def tip_of(lineage: Lineage, published: Collection[str], *, vhd_directory: bool) -> Tip:
    """The newest of ``published`` (base names) and whether it may be continued."""
    if not published:
        return Tip(code=NoBase.EMPTY)
    name = max(published)
    member = lineage.members.get(name)
    found = _judge(lineage, name, published, vhd_directory=vhd_directory)
    refusal = found if isinstance(found, BaseRefusal) else None
    return Tip(
        name=name,
        snapshot_uuid=str(member.uuid) if member is not None else "",
        virtual_size_bytes=member.virtual_size_bytes if member is not None else 0,
        size_max_bytes=None if refusal is not None else size_max_bytes(lineage, name),
        problem=refusal.reason if refusal is not None else "",
        code=refusal.code if refusal is not None else None,
        known=True,
    )


def find_base(
    lineage: Lineage,
    published: Collection[str],
    snapshot_uuids: Sequence[str],
    *,
    vhd_directory: bool,
    virtual_size_bytes: int | None = None,
) -> Base | BaseRefusal:
    """The first of ``snapshot_uuids`` (newest first) whose disk may be continued, or why the best one may not."""
    if not published:
        return BaseRefusal(code=NoBase.EMPTY, reason="the remote has no backup of this disk")
    refusal: BaseRefusal | None = None
    for text in snapshot_uuids:
        members = sorted((m.name for m in lineage.of_uuid(UUID(text))), reverse=True) if is_uuid(text) else []
        for name in members:
            found = _judge(lineage, name, published, vhd_directory=vhd_directory)
            if isinstance(found, Base):
                found = _sized(lineage, found, virtual_size_bytes)
            if isinstance(found, Base):
                return found
            refusal = refusal or found
    if refusal is not None:
        return refusal
    newest = lineage.members.get(max(published))
    has = f"the newest it has is {newest.uuid} ({newest.name})" if newest else "its newest is unreadable"
    reason = f"none of the {len(snapshot_uuids)} snapshots the pool still has is on the remote; {has}"
    return BaseRefusal(code=NoBase.NOT_FOUND, reason=reason)


def size_max_bytes(lineage: Lineage, name: str) -> int | None:
    """How large a child of ``name`` may be: a file of the chain grows as far as any can, a directory by its table."""
    chain = lineage.chain(name) or ()
    bounds = [SIZE_MAX_BYTES if member.data is None else member.table_entries * BLOCK_BYTES for member in chain]
    return min(bounds, default=None)


def _judge(lineage: Lineage, name: str, published: Collection[str], *, vhd_directory: bool) -> Base | BaseRefusal:
    def refuse(code: NoBase, reason: str) -> BaseRefusal:
        return BaseRefusal(code=code, reason=reason)

    if name not in published:
        return refuse(NoBase.UNPUBLISHED, f"{name} is left of a run that never published it")
    chain = lineage.chain(name)
    merging = lineage.merging()
    if name in merging or any(member.name in merging for member in chain or ()):
        return refuse(NoBase.MERGE_UNFINISHED, f"a merge in the chain of {name} is not finished")
    if chain is None:
        return refuse(NoBase.CHAIN_BROKEN, f"the chain of {name} is broken: {lineage.broken_chain(name)}")
    children = lineage.children().get(name, [])
    if children:
        return refuse(NoBase.NOT_TIP, f"{name} was continued by {', '.join(children)} already")
    above = [other for other in (*lineage.members, *lineage.unreadable) if other > name and other in published]
    if above and any(other in lineage.unreadable for other in above):
        return refuse(NoBase.CHAIN_BROKEN, f"{', '.join(above)} may build on {name} and cannot be read")
    return _uniform(name, chain, vhd_directory=vhd_directory)


def _uniform(name: str, chain: Sequence[MemberDisk], *, vhd_directory: bool) -> Base | BaseRefusal:
    kinds = {member.data is not None for member in chain}
    directory = as_directory(chain[-1].virtual_size_bytes, vhd_directory=vhd_directory)
    if kinds != {directory}:
        wanted, has = ("directories", "files") if directory else ("files", "directories")
        why = "the remote is set to" if directory == vhd_directory else "a disk of that size is kept as"
        reason = f"{why} VHD {wanted}, the chain of {name} has {has}"
        return BaseRefusal(code=NoBase.OTHER_KIND, reason=reason)
    codecs = {member.codec for member in chain}
    if len(codecs) > 1:
        reason = f"the chain of {name} mixes compressions: {', '.join(sorted(str(codec) for codec in codecs))}"
        return BaseRefusal(code=NoBase.OTHER_CODEC, reason=reason)
    tip = chain[-1]
    return Base(
        name=name,
        uuid=tip.uuid,
        virtual_size_bytes=tip.virtual_size_bytes,
        chain_length=len(chain),
        codec=tip.codec,
    )


def _sized(lineage: Lineage, base: Base, virtual_size_bytes: int | None) -> Base | BaseRefusal:
    if virtual_size_bytes is None:
        return base
    if virtual_size_bytes < base.virtual_size_bytes:
        reason = f"the disk shrank from {base.virtual_size_bytes} to {virtual_size_bytes} bytes"
        return BaseRefusal(code=NoBase.SHRUNK, reason=reason)
    most = size_max_bytes(lineage, base.name)
    if most is not None and virtual_size_bytes > most:
        reason = f"the disk grew to {virtual_size_bytes} bytes, its chain has room for {most}"
        return BaseRefusal(code=NoBase.GROWN_PAST_TABLE, reason=reason)
    return base
