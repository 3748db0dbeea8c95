"""Open objects of an encrypted remote: one that is read, one that is written in order, one on its way by upload."""

from __future__ import annotations

from remotes import errors, faces
from remotes.contract import Buffer, ReadableFile, WritableFile
from remotes.encryption.scheme import StreamSealer

COPY_BYTES = 1 << 20


class OpenedFile:
    """An open object; what is not proven is an error of the remote."""

    def __init__(self, content: ReadableFile, url: str, name: str) -> None:
        self._content = content
        self._url = url
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        return self._content.size()

    def read_into(self, offset: int, buffer: memoryview) -> int:
        try:
            return self._content.read_into(offset, buffer)
        except ValueError as error:
            raise errors.Corrupt(self._url, self._name, str(error)) from None

    def close(self) -> None:
        self._content.close()


class SealingFile:
    """A new object, written in order. It is one from ``sync`` on."""

    def __init__(self, stored: WritableFile, sealer: StreamSealer, url: str, name: str) -> None:
        self._stored = stored
        self._sealer = sealer
        self._url = url
        self._name = name
        self._size = 0
        self._stored_size = 0
        self._sealed = False

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        raise self._refusal("it cannot be read while it is written")

    def write_at(self, offset: int, data: Buffer) -> None:
        if offset != self._size:
            raise self._refusal(f"it is written in order: expected offset {self._size}, got {offset}")
        if self._sealed:
            raise self._refusal("it is sealed")
        view = memoryview(data).cast("B")
        try:
            self._append(self._sealer.update(view))
        except ValueError as error:
            raise self._refusal(str(error)) from None
        self._size += len(view)

    def truncate(self, size_bytes: int) -> None:
        if size_bytes != self._size:
            raise self._refusal("it is written in order and cannot be cut or extended")

    def copy_range(self, source: ReadableFile, source_offset: int, offset: int, length: int) -> None:
        buffer = memoryview(bytearray(min(length, COPY_BYTES)))
        for at in range(0, length, COPY_BYTES):
            piece = buffer[: min(COPY_BYTES, length - at)]
            count = source.read_into(source_offset + at, piece)
            if count < len(piece):
                problem = f"expected {length} bytes at {source_offset}, found {at + count}"
                raise errors.Unavailable(self._url, source.name, problem, transient=False)
            self.write_at(offset + at, piece)

    def written(self, offset: int, length: int) -> None:
        """What is stored of it begins at most where the content does."""
        self._stored.written(offset, length)

    def sync(self) -> None:
        if not self._sealed:
            self._append(self._sealer.finish())
            self._sealed = True
        self._stored.sync()

    def close(self) -> None:
        self._stored.close()

    def _append(self, data: bytes) -> None:
        if data:
            self._stored.write_at(self._stored_size, data)
            self._stored_size += len(data)

    def _refusal(self, problem: str) -> errors.NotSupported:
        return errors.NotSupported(self._url, self._name, f"an encrypted object: {problem}")


class SealingUpload:
    """A new object on its way to a storage that takes them in order."""

    def __init__(self, stored: faces.Upload, sealer: StreamSealer, url: str, name: str) -> None:
        self._stored = stored
        self._sealer = sealer
        self._url = url
        self._name = name
        self._size = 0
        self._stored_size = 0

    def write(self, data: memoryview) -> None:
        try:
            self._append(self._sealer.update(data))
        except ValueError as error:
            raise errors.NotSupported(self._url, self._name, f"an encrypted object: {error}") from None
        self._size += len(data)

    def finish(self) -> int:
        """Length of the content, if the storage has as many bytes as were sent."""
        self._append(self._sealer.finish())
        found = self._stored.finish()
        if found != self._stored_size:
            problem = f"expected {self._stored_size} bytes on the storage, found {found}"
            raise errors.Corrupt(self._url, self._name, problem)
        return self._size

    def abort(self) -> None:
        self._stored.abort()

    def _append(self, data: bytes) -> None:
        if data:
            self._stored.write(memoryview(data))
            self._stored_size += len(data)
