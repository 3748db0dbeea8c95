"""A versioned bucket as it was at an instant, to be read: what was deleted or overwritten since is there again.

The past is as the store's clock tells it, to the second. Directories are listed version by version, once each; the
newest of them are remembered (:data:`DIRECTORIES_MAX`), so that reading a disk costs a listing for every thousand
blocks besides what it costs anyway. A directory counts as there when anything below it has any version.

Nothing can be written, but for :meth:`S3Past.bring_back`: an object that is hidden now is copied from its old version
to its name, inside the store. It never replaces anything and deletes nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from remotes import errors, names
from remotes.contract import Buffer, Capabilities, Entry, Kind, Usage, WritableFile
from remotes.faces import Since, Traffic
from remotes.s3.keys import Keys
from remotes.s3.locking import Locker
from remotes.s3.reading import S3File, get_object
from remotes.s3.versions import Version, as_of, history, pages

DIRECTORIES_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A directory with all its versions, by base name."""

    files: dict[str, list[Version]]
    directories: tuple[str, ...]


class S3Past:
    """See the module's head; satisfies the contract for reading."""

    def __init__(self, locker: Locker, keys: Keys, *, time_s: float, url: str, parallel: int) -> None:
        self._locker = locker
        self._requester = locker.requester
        self._keys = keys
        self._time_s = time_s
        self._url = url
        self._parallel = parallel
        self._lock = threading.Lock()
        self._listed: OrderedDict[str, _Listed] = OrderedDict()

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            random_access=False,
            atomic_rename=False,
            exclusive_directories=False,
            range_copy=False,
            durable=True,
            hierarchical=False,
            keeps_versions=True,
            conditional_put=False,
            parallel=self._parallel,
        )

    def traffic(self) -> Traffic:
        return self._requester.traffic()

    def list(self, directory: str) -> list[Entry]:
        names.validate_directory(directory, remote=self.url)
        listed = self._look(directory)
        found = [_directory(name) for name in listed.directories]
        for base, versions in listed.files.items():
            if (version := as_of(versions, self._time_s)) is not None:
                found.append(_entry(base, version))
        if not found and directory:
            raise errors.NotFound(self.url, directory)
        return sorted(found, key=lambda entry: entry.name)

    def stat(self, name: str) -> Entry:
        names.validate_directory(name, remote=self.url)
        if not name:
            return _directory(name)
        try:
            return _entry(name, self._version(name))
        except errors.NotFound:
            if names.split(name)[1] in self._look(names.split(name)[0]).directories:
                return _directory(name)
            raise

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        return get_object(self._requester, self._keys, name, limit_bytes, version=self._version(name).id)

    def open(self, name: str) -> S3File:
        return S3File(self._requester, self._keys, name, version=self._version(name).id)

    def since(self, name: str) -> Since:
        """What has become of a file that was there."""
        then, now = self._version(name), history(self._versions(name))[0]
        if now.deleted:
            return Since.HIDDEN
        same = now.id == then.id or (bool(then.etag) and (now.etag, now.size_bytes) == (then.etag, then.size_bytes))
        return Since.SAME if same else Since.REPLACED

    def bring_back(self, name: str) -> None:
        """Copy a file that is hidden now to its name, locked like what is put now."""
        version, key = self._version(name), self._keys.key(name)
        try:
            self._requester.call("head_object", name, Key=key)
        except errors.NotFound:
            pass
        else:
            raise errors.AlreadyExists(self.url, name)
        source = {"Bucket": self._requester.bucket, "Key": key, "VersionId": version.id}
        self._locker.copy(name, Key=key, CopySource=source)
        self._locker.ensure(name, key)

    def usage(self) -> Usage | None:
        return None

    def close(self) -> None:
        close = getattr(self._requester.client, "close", None)
        if close is not None:
            close()

    # -- what cannot be done to the past

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        self._over(name)

    def create(self, name: str) -> WritableFile:
        self._over(name)

    def update(self, name: str) -> WritableFile:
        self._over(name)

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        self._over(old)

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        self._over(name)

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        self._over(name)

    def remove_directory(self, name: str) -> None:
        self._over(name)

    def delete_tree(self, name: str) -> None:
        self._over(name)

    def touch(self, name: str) -> float:
        self._over(name)

    def _over(self, name: str) -> NoReturn:
        raise errors.ReadOnly(self.url, name)

    # -- inside

    def _version(self, name: str) -> Version:
        found = as_of(self._versions(name), self._time_s)
        if found is None:
            raise errors.NotFound(self.url, name)
        return found

    def _versions(self, name: str) -> Sequence[Version]:
        directory, base = names.split(names.validate(name, remote=self.url))
        return self._look(directory).files.get(base, [])

    def _look(self, directory: str) -> _Listed:
        with self._lock:
            if directory in self._listed:
                self._listed.move_to_end(directory)
                return self._listed[directory]
        below = self._keys.below(directory)
        files: dict[str, list[Version]] = {}
        directories: dict[str, None] = {}
        for page in pages(self._requester, directory, prefix=below, delimiter="/"):
            for version in page.versions:
                if base := version.key[len(below) :]:
                    files.setdefault(base, []).append(version)
            directories |= dict.fromkeys(base for each in page.directories if (base := each[len(below) : -1]))
        listed = _Listed(files=files, directories=tuple(directories))
        with self._lock:
            self._listed[directory] = listed
            while len(self._listed) > DIRECTORIES_MAX:
                self._listed.popitem(last=False)
        return listed


def require_versions(requester: Any) -> None:
    """Raise unless the bucket keeps versions, or did."""
    if requester.call("get_bucket_versioning").get("Status") not in ("Enabled", "Suspended"):
        problem = "the bucket keeps no old versions: it can only be seen as it is now"
        raise errors.NotSupported(requester.url, "", problem)


def _entry(name: str, version: Version) -> Entry:
    return Entry(name=name, kind=Kind.FILE, size_bytes=version.size_bytes, modified_s=version.modified_s)


def _directory(name: str) -> Entry:
    return Entry(name=name, kind=Kind.DIRECTORY, size_bytes=0, modified_s=0.0)
