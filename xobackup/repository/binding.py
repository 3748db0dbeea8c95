"""What of an object's name is sealed into it on remotes encrypted in our own way: a part of the on-disk format.

An object opens under every name of equal binding, so that what this package moves moves as it is. Everything else is
bound to its whole name. Version 1; a change of this table is a change of the format (docs/encryption.md).

==============================================================  ==================================================
name                                                            binding
==============================================================  ==================================================
``.../.NAME.part`` (also as a directory on the way)             as ``.../NAME``
``.xobackup/quarantine/<vm>/<time>/PATH``                       as ``xo-vm-backups/<vm>/PATH``
``.xobackup/pool-metadata/<s>/<p>/<ts>.<run>.part/PATH``        as ``xo-pool-metadata-backups/<s>/<p>/<ts>/PATH``
``.../vdis/<job>/<vdi>/<ts>.alias.vhd/PATH`` (a part)           as ``.../vdis/<job>/<vdi>/data/<ts>.vhd/PATH``
``.../vdis/<job>/<vdi>/data/ANY/blocks/<n>/<m>``                ``.../vdis/<job>/<vdi>/data/*/blocks/<n>/<m>``
``.../vdis/<job>/<vdi>/<ts>.alias.vhd``                         ``.../vdis/<job>/<vdi>/*.alias.vhd``
``.xobackup/digests/.../<ts>.xxh3.after.<ts>``                  as ``.xobackup/digests/.../<ts>.xxh3``
==============================================================  ==================================================

A merge moves blocks from one disk of a lineage into another and gives the root its target's name: hence the stars. A
block is bound to its place in a disk of that lineage, not to which restore point wrote it. Blocks exchanged between
two restore points of the same disk at the same place are told by their digests.
"""

from __future__ import annotations

from xobackup.repository.layout import ALIAS_SUFFIX, DATA, PART_SUFFIX, PRIVATE, VDIS, VHD_SUFFIX, VM_BACKUPS
from xobackup.repository.pools.layout import POOL_BACKUPS

_LINEAGE_PARTS = 5
"""``xo-vm-backups/<vm>/vdis/<job>/<vdi>``."""


def binding_of(name: str) -> str:
    """See the module's head. Pure; every name has one."""
    parts = [_unhidden(part) for part in name.split("/")]
    parts = _brought_back(parts)
    if len(parts) > _LINEAGE_PARTS and parts[0] == VM_BACKUPS and parts[2] == VDIS:
        parts[_LINEAGE_PARTS:] = _in_lineage(parts[_LINEAGE_PARTS:])
    elif parts[:2] == [PRIVATE, "digests"]:
        parts[-1] = parts[-1].partition(".after.")[0]
    return "/".join(parts)


def _unhidden(part: str) -> str:
    hidden = part.startswith(".") and part.endswith(PART_SUFFIX) and len(part) > len(PART_SUFFIX) + 1
    return part[1 : -len(PART_SUFFIX)] if hidden else part


def _brought_back(parts: list[str]) -> list[str]:
    """From quarantine, or from where a point is put together, to where it belongs."""
    if parts[:2] == [PRIVATE, "quarantine"] and len(parts) > 4:
        return [VM_BACKUPS, parts[2], *parts[4:]]
    if parts[:2] == [PRIVATE, "pool-metadata"] and len(parts) > 5 and parts[4].endswith(PART_SUFFIX):
        return [POOL_BACKUPS, parts[2], parts[3], parts[4].partition(".")[0], *parts[5:]]
    return parts


def _in_lineage(rest: list[str]) -> list[str]:
    if len(rest) == 1 and rest[0].endswith(ALIAS_SUFFIX):
        return [f"*{ALIAS_SUFFIX}"]
    if len(rest) > 1 and rest[0].endswith(ALIAS_SUFFIX):
        rest = [DATA, rest[0].removesuffix(ALIAS_SUFFIX) + VHD_SUFFIX, *rest[1:]]
    if len(rest) == 5 and rest[0] == DATA and rest[2] == "blocks":
        return [DATA, "*", *rest[2:]]
    return rest
