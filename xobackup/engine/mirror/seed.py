"""The manifest of a seed: what a disk that travels carries, so that the other end can tell whether all of it arrived.

The disk is a repository like any other, and the manifest one more file at its root. It is taken away before anything
on the disk is changed and written when everything is there: a disk without it was not finished. It carries the
SHA-256 of every restore point's JSON and of itself; blocks have their own digests in the repository.
This finds damage and mistakes. It is no signature: who can write to the disk can write a manifest too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from remotes.errors import NotFound
from xobackup.engine.errors import IntegrityError, UsageError
from xobackup.repository.layout import metadata_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xobackup.repository.repository import Repository

NAME = "xobackup-seed.json"
FORMAT = "xobackup seed 1"
LIMIT_BYTES = 256 << 20
_FIELDS = {"format", "version", "source", "made_at", "points"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """One restore point of a seed."""

    vm: str
    name: str
    point: str
    mode: str
    sha256: str
    """Of its JSON as it is in the repository, in hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``made_at``: ISO 8601, UTC. ``source``: the URL, without secrets, of what was exported."""

    version: str
    source: str
    made_at: str
    points: tuple[Carried, ...]

    def encoded(self) -> bytes:
        """The file's bytes, with the digest of everything else in ``sha256``."""
        told: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        return json.dumps({**told, "sha256": _digest(told)}, indent=1, sort_keys=True).encode() + b"\n"


def decoded(data: bytes, where: str) -> Manifest:
    """The manifest in ``data``; :class:`IntegrityError` when it is not whole, naming ``where``."""
    try:
        told = json.loads(data)
        expected = told.pop("sha256")
        found = _digest(told)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{where}/{NAME}: expected JSON with a sha256, found something else ({error})", hint=_AGAIN
        ) from error
    if found != expected:
        raise IntegrityError(f"{where}/{NAME}: expected its SHA-256 to be {expected}, found {found}", hint=_AGAIN)
    if set(told) != _FIELDS or told["format"] != FORMAT:
        raise UsageError(
            f"{where}/{NAME}: expected the format {FORMAT!r}, found {told.get('format')!r}",
            hint="it is of another release: import it with the one that made it, or use `xobackup mirror`",
        )
    try:
        points = tuple(Carried(**one) for one in told["points"])
    except TypeError as error:
        raise IntegrityError(
            f"{where}/{NAME}: a restore point in it is not described as expected: {error}"
        ) from error
    return Manifest(version=told["version"], source=told["source"], made_at=told["made_at"], points=points)


def carried(repository: Repository, vms: Iterable[str]) -> tuple[Carried, ...]:
    """The restore points of ``vms`` that are on the disk; :class:`IntegrityError` when they cannot all be listed."""
    found: list[Carried] = []
    for vm in vms:
        listing = repository.points(vm)
        if not listing.certain:
            told = "; ".join(str(problem) for problem in listing.problems)
            raise IntegrityError(f"{repository.remote.url}: not every restore point of VM {vm} can be listed: {told}")
        found += [
            Carried(vm=vm, name=one.vm_name, point=one.id, mode=one.mode, sha256=_json_digest(repository, vm, one.id))
            for one in listing.points
        ]
    return tuple(found)


def withdraw(repository: Repository) -> None:
    """Take the manifest away, for good on return: from now on the disk is not finished."""
    repository.remote.delete(NAME, missing_ok=True)


def write(repository: Repository, manifest: Manifest) -> None:
    """The last step of an export; durable on return."""
    repository.remote.put(NAME, manifest.encoded())


def read(repository: Repository) -> Manifest:
    """The manifest on the disk; :class:`UsageError` when there is none."""
    where = repository.remote.url
    try:
        return decoded(repository.remote.get(NAME, limit_bytes=LIMIT_BYTES), where)
    except NotFound as error:
        raise UsageError(
            f"{where}: there is no {NAME}: this is no seed, or its export was not finished",
            hint="run `xobackup seed export` again: it goes on where it stopped; `xobackup mirror` needs no manifest",
        ) from error


def problems(repository: Repository, manifest: Manifest) -> dict[tuple[str, str], str]:
    """What is wrong with restore points that ``manifest`` promises, by VM and point; blocks are not read."""
    wrong: dict[tuple[str, str], str] = {}
    for one in manifest.points:
        try:
            found = _json_digest(repository, one.vm, one.point)
        except NotFound:
            wrong[one.vm, one.point] = "the manifest names it, but it is not on the disk"
            continue
        if found != one.sha256:
            wrong[one.vm, one.point] = f"expected the SHA-256 of its JSON to be {one.sha256}, found {found}"
    return wrong


def _json_digest(repository: Repository, vm: str, point: str) -> str:
    return hashlib.sha256(repository.remote.get(metadata_name(vm, point))).hexdigest()


def _digest(told: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


_AGAIN = "the disk is damaged or was written to: export again, or take what is whole with `xobackup mirror`"
