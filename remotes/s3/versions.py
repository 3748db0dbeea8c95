"""Old versions of objects: all that a versioned bucket still has of a key, newest first.

Every version has a time from the store's clock, to the second at least. A version and a mark of a deletion of the
same instant cannot be told apart by time; then the version counts as the newer one, unless the store says that the
mark is the latest: what may have been there is shown rather than hidden.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from remotes import errors
from remotes.faces import Once
from remotes.s3.keys import Keys
from remotes.s3.locking import protection_of
from remotes.s3.requester import Requester

PAGES_MAX = 20
"""Of a count that somebody waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an object, or a mark that it was deleted."""

    key: str
    id: str
    modified_s: float
    size_bytes: int = 0
    etag: str = ""
    deleted: bool = False
    """A mark of a deletion."""
    latest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """What is out of sight. ``more``: the count was cut off."""

    old: int
    old_bytes: int
    markers: int
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    versions: tuple[Version, ...]
    directories: tuple[str, ...]
    """Common prefixes, with the slash."""


def pages(requester: Requester, name: str, *, prefix: str, delimiter: str = "") -> Iterator[Page]:
    """Every page of the versions below ``prefix``, or an error; ``name`` is what errors name."""
    more: dict[str, Any] = {"Delimiter": delimiter} if delimiter else {}
    while True:
        answer = requester.call("list_object_versions", name, Prefix=prefix, **more)
        found = [_version(each, deleted=False) for each in answer.get("Versions", [])]
        found += [_version(each, deleted=True) for each in answer.get("DeleteMarkers", [])]
        directories = tuple(str(each["Prefix"]) for each in answer.get("CommonPrefixes", []))
        yield Page(versions=tuple(found), directories=directories)
        if not answer.get("IsTruncated"):
            return
        markers = (answer.get("NextKeyMarker"), answer.get("NextVersionIdMarker"))
        if not markers[0] or markers == (more.get("KeyMarker"), more.get("VersionIdMarker")):
            problem = "the listing of versions is cut off, and the store does not say where it goes on"
            raise errors.Unavailable(requester.url, name, problem, transient=False)
        more = {**more, "KeyMarker": markers[0]}
        if markers[1]:
            more["VersionIdMarker"] = markers[1]
        else:
            more.pop("VersionIdMarker", None)


def history(versions: Sequence[Version]) -> list[Version]:
    """The versions of one key, newest first."""
    return sorted(versions, key=lambda one: (one.latest, one.modified_s, not one.deleted), reverse=True)


def as_of(versions: Sequence[Version], time_s: float) -> Version | None:
    """What one key was at ``time_s``; ``None``: nothing, or deleted."""
    found = next((one for one in history(versions) if one.modified_s <= time_s), None)
    return None if found is None or found.deleted else found


def count_hidden(requester: Requester, prefix: str) -> Hidden:
    """Count what is out of sight, up to :data:`PAGES_MAX` pages."""
    old = old_bytes = markers = 0
    more = False
    for number, page in enumerate(pages(requester, "", prefix=prefix), 1):
        markers += sum(one.deleted for one in page.versions)
        hidden = [one for one in page.versions if not one.deleted and not one.latest]
        old, old_bytes = old + len(hidden), old_bytes + sum(one.size_bytes for one in hidden)
        if number == PAGES_MAX:
            more = True
            break
    return Hidden(old=old, old_bytes=old_bytes, markers=markers, more=more)


def versions_in(requester: Requester, keys: Keys, directory: str, pattern: str) -> Iterator[Once]:
    """See :meth:`remotes.faces.Rewinding.versions`; each that may be locked is asked."""
    below, fits = keys.below(directory), re.compile(pattern)
    by_name: dict[str, list[Version]] = {}
    for page in pages(requester, directory, prefix=below, delimiter="/"):
        for version in page.versions:
            if fits.fullmatch(base := version.key[len(below) :]):
                by_name.setdefault(base, []).append(version)
    for base in sorted(by_name):
        newer: Version | None = None
        told: list[Once] = []
        for version in history(by_name[base]):
            if not version.deleted:
                told.append(
                    Once(
                        name=base,
                        size_bytes=version.size_bytes,
                        written_s=version.modified_s,
                        gone_s=newer.modified_s if newer is not None else None,
                        replaced=newer is not None and not newer.deleted,
                        locked_until_s=_locked_until_s(requester, version),
                    )
                )
            newer = version
        yield from reversed(told)


def _locked_until_s(requester: Requester, version: Version) -> float | None:
    try:
        head = requester.call("head_object", version.key, Key=version.key, VersionId=version.id)
    except errors.NotFound:
        return None  # expired since it was listed
    found = protection_of(head)
    return None if found is None else found.until_s


def _version(found: dict[str, Any], *, deleted: bool) -> Version:
    return Version(
        key=str(found["Key"]),
        id=str(found["VersionId"]),
        modified_s=found["LastModified"].timestamp(),
        size_bytes=int(found.get("Size") or 0),
        etag=str(found.get("ETag") or ""),
        deleted=deleted,
        latest=bool(found.get("IsLatest")),
    )
