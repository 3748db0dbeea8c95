"""A remote that tries again when the storage says that it may help.

Only errors with ``transient`` are retried, after an exponential pause with full jitter, until the attempts or the
time of the :class:`RetryPolicy` are used up; then the last error is raised. What may be repeated, and why:

==================  =====================================================================================
list, stat, get,    read only
open, usage, size,
read_into
put (replace)       the same content again
put (new)           after an ambiguous failure an existing name counts as ours if it holds our content
rename              after an ambiguous failure: ``old`` gone and ``new`` there means done
delete,             after an ambiguous failure a missing name means done
remove_directory
delete_tree         naturally
make_directory      naturally with ``exist_ok``; exclusive: never (it may be somebody's lock)
touch               naturally
create              after an ambiguous failure an existing *empty* file is not ours for certain: never
update              opens only
write_at, truncate  the same bytes at the same place
copy_range          the same bytes at the same place
copy, delete_many,  naturally
probe, remarks,
discard_uploads
upload              its beginning only: a piece, or the end, may have arrived
sync                never: after a failed sync the storage may have dropped what it could not write, and a second one
                    would report success
==================  =====================================================================================
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from remotes import errors, faces
from remotes.clock import Clock, SystemClock
from remotes.contract import Buffer, Capabilities, Entry, ReadableFile, Remote, Usage, WritableFile, hint_read

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to hope."""

    attempts_max: int = 6
    first_pause_s: float = 0.1
    pause_max_s: float = 5.0
    budget_s: float = 30.0
    """No new attempt starts later than this after the first."""

    def pause_s(self, attempt: int, rng: random.Random) -> float:
        """How long to wait after the failed attempt number ``attempt`` (from 1): anything up to the exponential."""
        ceiling = min(self.pause_max_s, self.first_pause_s * 2 ** (attempt - 1))
        return rng.uniform(0, ceiling)


class Retrier:
    """Calls something again and again."""

    def __init__(self, policy: RetryPolicy, clock: Clock, rng: random.Random) -> None:
        self._policy = policy
        self._clock = clock
        self._rng = rng

    def call(self, action: Callable[[], T], settle: Callable[[errors.RemoteError], T] | None = None) -> T:
        """``settle`` decides about a lasting error of a *later* attempt: return if the first one did it after all."""
        begun_s = self._clock.monotonic_s()
        attempt = 1
        while True:
            try:
                return action()
            except errors.RemoteError as error:
                if not error.transient:
                    if attempt == 1 or settle is None:
                        raise
                    return settle(error)
                pause_s = self._policy.pause_s(attempt, self._rng)
                waited_s = self._clock.monotonic_s() - begun_s
                if attempt >= self._policy.attempts_max or waited_s + pause_s > self._policy.budget_s:
                    error.add_note(f"gave up after {attempt} attempts in {waited_s:.1f} s")
                    raise
            self._clock.sleep(pause_s)
            attempt += 1


class RetryingRemote:
    """See the module's head."""

    def __init__(
        self,
        inner: Remote,
        policy: RetryPolicy | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.inner = inner
        self._retrier = Retrier(policy or RetryPolicy(), clock or SystemClock(), rng or random.Random())

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def list(self, directory: str) -> list[Entry]:
        return self._retrier.call(lambda: self.inner.list(directory))

    def stat(self, name: str) -> Entry:
        return self._retrier.call(lambda: self.inner.stat(name))

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        return self._retrier.call(lambda: self.inner.get(name, limit_bytes=limit_bytes))

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        def settle(error: errors.RemoteError) -> None:
            if not isinstance(error, errors.AlreadyExists) or self.get(name) != memoryview(data):
                raise error

        self._retrier.call(lambda: self.inner.put(name, data, replace=replace), None if replace else settle)

    def open(self, name: str) -> RetryingFile:
        return RetryingFile(self._retrier, self._retrier.call(lambda: self.inner.open(name)))

    def create(self, name: str) -> RetryingWritableFile:
        return RetryingWritableFile(self._retrier, self.inner.create(name))

    def update(self, name: str) -> RetryingWritableFile:
        return RetryingWritableFile(self._retrier, self._retrier.call(lambda: self.inner.update(name)))

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        def settle(error: errors.RemoteError) -> None:
            if not isinstance(error, errors.NotFound) or self._exists(old) or not self._exists(new):
                raise error

        self._retrier.call(lambda: self.inner.rename(old, new, replace=replace), settle)

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        self._retrier.call(lambda: self.inner.delete(name, missing_ok=missing_ok), _accept_missing)

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        if exist_ok:
            self._retrier.call(lambda: self.inner.make_directory(name))
        else:
            self.inner.make_directory(name, exist_ok=False)

    def remove_directory(self, name: str) -> None:
        self._retrier.call(lambda: self.inner.remove_directory(name), _accept_missing)

    def delete_tree(self, name: str) -> None:
        self._retrier.call(lambda: self.inner.delete_tree(name))

    def touch(self, name: str) -> float:
        return self._retrier.call(lambda: self.inner.touch(name))

    def usage(self) -> Usage | None:
        return self._retrier.call(self.inner.usage)

    def copy(self, old: str, new: str) -> None:
        self._retrier.call(lambda: faces.copy(self.inner, old, new))

    def delete_many(self, names: Sequence[str]) -> None:
        self._retrier.call(lambda: faces.delete_many(self.inner, names))

    def upload(self, name: str, *, bound_bytes: int | None) -> faces.Upload:
        return self._retrier.call(lambda: faces.upload(self.inner, name, bound_bytes=bound_bytes))

    def discard_uploads(self, name: str) -> int:
        return self._retrier.call(lambda: faces.discard_uploads(self.inner, name))

    def probe(self) -> None:
        self._retrier.call(lambda: faces.probe(self.inner))

    def traffic(self) -> faces.Traffic | None:
        return faces.traffic(self.inner)

    def protection(self, name: str) -> faces.Protection | None:
        return self._retrier.call(lambda: faces.protection(self.inner, name))

    def relock(self, names: Sequence[str]) -> None:
        self._retrier.call(lambda: faces.relock(self.inner, names))

    def as_of(self, time_s: float) -> faces.Past:
        return faces.as_of(self.inner, time_s)

    def versions(self, directory: str, pattern: str) -> Sequence[faces.Once]:
        return self._retrier.call(lambda: faces.rewinding(self.inner).versions(directory, pattern))

    def ever(self, directory: str) -> Sequence[str]:
        return self._retrier.call(lambda: faces.rewinding(self.inner).ever(directory))

    def remarks(self) -> Sequence[faces.Remark]:
        return self._retrier.call(lambda: faces.remarks(self.inner))

    def close(self) -> None:
        self.inner.close()

    def _exists(self, name: str) -> bool:
        try:
            self.stat(name)
        except errors.NotFound:
            return False
        return True


class RetryingFile:
    """An open file of a :class:`RetryingRemote`."""

    def __init__(self, retrier: Retrier, inner: ReadableFile) -> None:
        self.inner: ReadableFile = inner
        self._retrier = retrier

    @property
    def name(self) -> str:
        return self.inner.name

    def size(self) -> int:
        return self._retrier.call(self.inner.size)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return self._retrier.call(lambda: self.inner.read_into(offset, buffer))

    def will_read(self, offset: int, length: int) -> None:
        hint_read(self.inner, offset, length)

    def close(self) -> None:
        self.inner.close()


class RetryingWritableFile(RetryingFile):
    """An open file of a :class:`RetryingRemote` that can be written."""

    def __init__(self, retrier: Retrier, inner: WritableFile) -> None:
        super().__init__(retrier, inner)
        self._file = inner

    def write_at(self, offset: int, data: Buffer) -> None:
        self._retrier.call(lambda: self._file.write_at(offset, data))

    def truncate(self, size_bytes: int) -> None:
        self._retrier.call(lambda: self._file.truncate(size_bytes))

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        inner = source.inner if isinstance(source, RetryingFile) else source
        self._retrier.call(lambda: self._file.copy_range(inner, source_offset, offset, length))

    def written(self, offset: int, length: int) -> None:
        self._file.written(offset, length)

    def sync(self) -> None:
        self._file.sync()


def _accept_missing(error: errors.RemoteError) -> None:
    if not isinstance(error, errors.NotFound):
        raise error
