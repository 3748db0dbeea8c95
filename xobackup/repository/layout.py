"""Names and paths of a repository, all relative to the remote's root; what comes from a JSON is validated here.

    xo-vm-backups/<vm>.lock/                             the writer's lock
    xo-vm-backups/<vm>/cache.json.gz                     every restore point's metadata, keyed by absolute path
    xo-vm-backups/<vm>/<ts>.json                         one restore point
    xo-vm-backups/<vm>/<ts>.xva, <ts>.xva.checksum       its image, when it is a full backup
    xo-vm-backups/<vm>/vdis/<job>/<live vdi>/<ts>.vhd              a disk in a file
    xo-vm-backups/<vm>/vdis/<job>/<live vdi>/<ts>.alias.vhd        a disk in a directory: a text naming ...
    xo-vm-backups/<vm>/vdis/<job>/<live vdi>/data/<ts>.vhd/        ... this (any name; only the alias knows)
    xo-vm-backups/<vm>/vdis/<job>/<live vdi>/.<base name>.merge.json   a merge in progress
    xo-vm-backups/<vm>/vdis/<job>/<live vdi>/.<ts>.vhd.part        ours: a disk being written (file or directory)
    xo-vm-backups/<vm>/.<ts>.xva.part                    ours: an image being written
    .xobackup/                                           ours: digests, verifications, locks, notes, quarantine

``<ts>`` is ``%Y%m%dT%H%M%SZ``, UTC, of the restore point's milliseconds; it is also the point's id.
Source: Xen Orchestra's repository format; it deletes unknown files at the root of a VM's directory, so nothing of
ours is ever put there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from xobackup.repository.errors import BadName

VM_BACKUPS = "xo-vm-backups"
PRIVATE = ".xobackup"
CACHE = "cache.json.gz"
VDIS = "vdis"
DATA = "data"
JSON_SUFFIX = ".json"
VHD_SUFFIX = ".vhd"
ALIAS_SUFFIX = ".alias.vhd"
PART_SUFFIX = ".part"
STATE_SUFFIX = ".merge.json"
XVA_SUFFIX = ".xva"
CHECKSUM_SUFFIX = ".checksum"
NAME_CHARACTERS_MAX = 200

_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_RFC4122 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", re.ASCII)
_PLACED = re.compile(r"\d{8}T\d{6}Z\.json|cache\.json\.gz", re.ASCII)
_IMAGE_LEFTOVER = re.compile(r"\.(\d{1,20}\.)?(\d{8}T\d{6}Z)\.xva(\.part)?", re.ASCII)
_TIMESTAMP_FORMAT = "%Y%m%dT%H%M%SZ"


def timestamp_name(timestamp_ms: int) -> str:
    """The ``<ts>`` of a time in Unix milliseconds (the part below a second is dropped)."""
    try:
        return datetime.fromtimestamp(timestamp_ms // 1000, tz=UTC).strftime(_TIMESTAMP_FORMAT)
    except (OverflowError, ValueError, OSError, TypeError):
        raise BadName("timestamp", timestamp_ms, "Unix milliseconds of a year up to 9999") from None


def timestamp_of(name: str) -> int | None:
    """The Unix milliseconds of a ``<ts>``, or ``None`` when it is none."""
    if not _TIMESTAMP.fullmatch(name):
        return None
    try:
        return int(datetime.strptime(name, _TIMESTAMP_FORMAT).replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        return None


def point_id(text: str) -> str:
    """``text`` as a point id: ``<ts>``, also as Xen Orchestra writes it (``/xo-vm-backups/<vm>/<ts>.json``)."""
    name = text.rsplit("/", 1)[-1].removesuffix(JSON_SUFFIX)
    if timestamp_of(name) is None:
        raise BadName("restore point", text, "a time like 20260102T030000Z")
    return name


def is_uuid(text: object) -> bool:
    """Whether ``text`` is a lower-case uuid."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def checked_uuid(kind: str, text: object) -> str:
    """``text`` when it is a uuid, else :class:`BadName`."""
    if not isinstance(text, str) or not is_uuid(text):
        raise BadName(kind, text, "a lower-case uuid")
    return text


def checked_disk_uuid(kind: str, text: object) -> str:
    """A uuid every reader takes inside a VHD: Xen Orchestra throws on others than RFC 4122's."""
    if not isinstance(text, str) or not _RFC4122.fullmatch(text):
        raise BadName(kind, text, "an RFC 4122 uuid (version 1 to 5)")
    return text


def is_part(text: object) -> bool:
    """Whether ``text`` is one harmless part of a path: no separator, no leading dot, nothing exotic."""
    return isinstance(text, str) and len(text) <= NAME_CHARACTERS_MAX and _PART.fullmatch(text) is not None


def checked_disk_path(text: object) -> str:
    """A disk's path from a JSON: ``vdis/<job>/<vdi>/<name>.vhd`` below the VM's directory and nothing else."""
    expected = "vdis/<job>/<vdi>/<name>.vhd inside the VM's directory"
    if not isinstance(text, str):
        raise BadName("disk path", text, expected)
    parts = text.removeprefix("./").split("/")
    if len(parts) != 4 or parts[0] != VDIS or not all(is_part(part) for part in parts):
        raise BadName("disk path", text, expected)
    if not parts[3].endswith(VHD_SUFFIX):
        raise BadName("disk path", text, expected)
    return "/".join(parts)


def checked_xva_path(text: object) -> str:
    """A full backup's image from a JSON: a file beside it."""
    name = text.removeprefix("./") if isinstance(text, str) else text
    if not isinstance(name, str) or not is_part(name) or not name.endswith(".xva"):
        raise BadName("image path", text, "<name>.xva beside the JSON")
    return name


def is_image(name: str) -> bool:
    """Whether ``name`` is a base name that a restore point may give its image."""
    return is_part(name) and name.endswith(XVA_SUFFIX)


def is_image_leftover(name: str) -> bool:
    """Whether a crash of a full backup, ours or Xen Orchestra's, may have left this base name."""
    found = _IMAGE_LEFTOVER.fullmatch(name)
    return found is not None and bool(found[1]) != bool(found[3])


def is_placed(name: str) -> bool:
    """Whether ``name``, relative to a VM's directory, is what others go by: a restore point, their cache, an alias.

    It is put out of sight first and gets its name by a rename (:mod:`xobackup.repository.fence`)."""
    return _PLACED.fullmatch(name) is not None or name.endswith(ALIAS_SUFFIX)


def placed_part_name(name: str) -> str:
    """Where that lies before; both are a remote's names."""
    directory, _, base = name.rpartition("/")
    return f"{directory}/.{base}{PART_SUFFIX}"


def is_placed_part(base: str) -> bool:
    """Whether a base name directly in a VM's directory is one of :func:`placed_part_name`."""
    inside = base.removeprefix(".").removesuffix(PART_SUFFIX)
    return base == f".{inside}{PART_SUFFIX}" and _PLACED.fullmatch(inside) is not None


def vm_directory(vm: str) -> str:
    return f"{VM_BACKUPS}/{checked_uuid('vm', vm)}"


def lock_name(vm: str) -> str:
    return f"{vm_directory(vm)}.lock"


def metadata_name(vm: str, point: str) -> str:
    return f"{vm_directory(vm)}/{point_id(point)}{JSON_SUFFIX}"


def cache_name(vm: str) -> str:
    return f"{vm_directory(vm)}/{CACHE}"


def cache_key(vm: str, point: str) -> str:
    """The key of a point in ``cache.json.gz``: with a leading slash."""
    return f"/{metadata_name(vm, point)}"


def lineage_path(job: str, vdi: str) -> str:
    """The directory of one disk's VHDs, relative to the VM's directory."""
    if not is_part(job) or not is_part(vdi):
        raise BadName("job or disk", f"{job}/{vdi}", "uuids")
    return f"{VDIS}/{job}/{vdi}"


def disk_name(point: str, *, directory: bool) -> str:
    """The base name of the disk of a point."""
    return point_id(point) + (ALIAS_SUFFIX if directory else VHD_SUFFIX)


def image_name(point: str) -> str:
    """The base name of the image of a full backup."""
    return point_id(point) + XVA_SUFFIX


def image_part_name(point: str) -> str:
    """Where an image is written before it is whole."""
    return f".{image_name(point)}{PART_SUFFIX}"


def part_name(disk: str) -> str:
    """Where disk ``disk`` (a base name) is written before it is whole. Not a name Xen Orchestra looks at."""
    return f".{disk}{PART_SUFFIX}"


def data_name(disk: str) -> str:
    """Where the directory behind alias ``disk`` goes, relative to the alias."""
    return f"{DATA}/{disk.removesuffix(ALIAS_SUFFIX)}{VHD_SUFFIX}"


def state_name(root: str) -> str:
    """The merge state file of the chain whose oldest member is ``root`` (a base name)."""
    return f".{root}{STATE_SUFFIX}"


def point_of_disk(name: str) -> str | None:
    """The ``<ts>`` in a disk's base name, if it has one."""
    stem = name.removesuffix(ALIAS_SUFFIX) if name.endswith(ALIAS_SUFFIX) else name.removesuffix(VHD_SUFFIX)
    return stem if timestamp_of(stem) is not None else None


def split_disk_path(path: str) -> tuple[str, str]:
    """``vdis/<job>/<vdi>/<name>`` as the directory and the base name."""
    directory, _, name = path.rpartition("/")
    return directory, name


def digest_directory(vm: str, lineage: str = "") -> str:
    """Where the digests of a VM, or of one of its lineages (``vdis/<job>/<vdi>``), are kept."""
    base = f"{PRIVATE}/digests/{checked_uuid('vm', vm)}"
    return f"{base}/{lineage.removeprefix(VDIS + '/')}" if lineage else base


def digest_name(vm: str, lineage: str, disk: str) -> str:
    """The digest file of disk ``disk`` (a base name)."""
    stem = disk.removesuffix(ALIAS_SUFFIX) if disk.endswith(ALIAS_SUFFIX) else disk.removesuffix(VHD_SUFFIX)
    return f"{digest_directory(vm, lineage)}/{stem}.xxh3"


def holder_name(vm: str) -> str:
    """Who of ours holds the lock: a note for error messages, never trusted."""
    return f"{PRIVATE}/locks/{checked_uuid('vm', vm)}.json"


def lease_directory(vm: str) -> str:
    """Where the leases of a VM are, on remotes that lock by them."""
    return f"{PRIVATE}/leases/{checked_uuid('vm', vm)}"


def lease_name(vm: str, number: int) -> str:
    """One lease; names sort by number."""
    return f"{lease_directory(vm)}/{number:010d}{JSON_SUFFIX}"


def begun_directory(vm: str, lineage: str) -> str:
    """Where it is noted which disks of a lineage were begun, on remotes where a disk has its place from the start."""
    return f"{PRIVATE}/begun/{checked_uuid('vm', vm)}/{lineage.removeprefix(VDIS + '/')}"


def takeover_name(vm: str) -> str:
    """The directory that lets one of us at a time take over a stale lock."""
    return f"{PRIVATE}/locks/{checked_uuid('vm', vm)}.takeover"


def quarantine_directory(vm: str, stamp: str) -> str:
    return f"{PRIVATE}/quarantine/{checked_uuid('vm', vm)}/{stamp}"


def pins_directory(vm: str) -> str:
    return f"{PRIVATE}/pins/{checked_uuid('vm', vm)}"


def pin_name(vm: str, point: str) -> str:
    """What keeps a restore point from being deleted."""
    return f"{pins_directory(vm)}/{point_id(point)}.json"


def image_notes_directory(vm: str) -> str:
    return f"{PRIVATE}/images/{checked_uuid('vm', vm)}"


def image_note_name(vm: str, image: str) -> str:
    """The note on an image that is about to come or to go."""
    return f"{image_notes_directory(vm)}/{checked_xva_path(image)}"


def memory_notes_directory(vm: str) -> str:
    return f"{PRIVATE}/memory/{checked_uuid('vm', vm)}"
