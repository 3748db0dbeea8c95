"""Where the names and bytes come from: a directory, a mapping, an open remote, or any of them decrypted.

Names are relative to the remote's root, ``/``-separated, ``""`` is the root.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol


class Tree(Protocol):
    def list(self, directory: str) -> dict[str, bool]:
        """Base name -> is it a directory; ``FileNotFoundError`` / ``NotADirectoryError`` as the system does."""
        ...

    def is_directory(self, name: str) -> bool | None:
        """None when there is no such name."""
        ...

    def size(self, name: str) -> int: ...

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Fewer bytes only at the end of the file; ``IsADirectoryError`` for a directory."""
        ...


def tree_of(source: Any) -> Tree:
    """The tree for a path, a mapping of names to bytes, an open remote, or a tree itself."""
    if isinstance(source, (str, os.PathLike)):
        return DirectoryTree(Path(source))
    if isinstance(source, Mapping):
        return MappingTree(source)
    if hasattr(source, "capabilities"):
        return RemoteTree(source)
    return source  # type: ignore[no-any-return]


class DirectoryTree:
    def __init__(self, root: Path) -> None:
        self.root = root

    def list(self, directory: str) -> dict[str, bool]:
        with os.scandir(self.root / directory) as entries:
            return {entry.name: entry.is_dir() for entry in sorted(entries, key=lambda entry: entry.name)}

    def is_directory(self, name: str) -> bool | None:
        path = self.root / name
        return path.is_dir() if path.exists() else None

    def size(self, name: str) -> int:
        return (self.root / name).stat().st_size

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with (self.root / name).open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read() if length is None else _read_fully(file, length)


def _read_fully(file: Any, length: int) -> bytes:
    pieces = []
    while length and (piece := file.read(length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


class MappingTree:
    """Directories are implied by the names below them; names ending in ``/`` are empty directories."""

    def __init__(self, content: Mapping[str, bytes]) -> None:
        self.content = {name.strip("/"): data for name, data in content.items() if not name.endswith("/")}
        self.directories: dict[str, dict[str, bool]] = {"": {}}
        for name in content:
            self._register(name.strip("/"), is_directory=name.endswith("/"))

    def _register(self, name: str, *, is_directory: bool) -> None:
        if is_directory:
            self.directories.setdefault(name, {})
        while name:
            parent, _, base = name.rpartition("/")
            known = parent in self.directories
            self.directories.setdefault(parent, {})[base] = is_directory
            if known and parent:
                return
            name, is_directory = parent, True

    def list(self, directory: str) -> dict[str, bool]:
        directory = directory.strip("/")
        if directory in self.directories:
            return dict(sorted(self.directories[directory].items()))
        raise (NotADirectoryError if directory in self.content else FileNotFoundError)(directory)

    def is_directory(self, name: str) -> bool | None:
        name = name.strip("/")
        return False if name in self.content else True if name in self.directories else None

    def _get(self, name: str) -> bytes:
        name = name.strip("/")
        if name not in self.content:
            raise (IsADirectoryError if name in self.directories else FileNotFoundError)(name)
        return self.content[name]

    def size(self, name: str) -> int:
        return len(self._get(name))

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        content = self._get(name)
        return bytes(content[offset:] if length is None else content[offset : offset + length])


class RemoteTree:
    """Over an open remote of this project, by its public face only."""

    def __init__(self, remote: Any) -> None:
        self.remote = remote

    def list(self, directory: str) -> dict[str, bool]:
        if self.is_directory(directory) is None:
            raise FileNotFoundError(directory)
        return {entry.name: str(entry.kind) == "directory" for entry in self.remote.list(directory.strip("/"))}

    def is_directory(self, name: str) -> bool | None:
        name = name.strip("/")
        if not name:
            return True
        parent, _, base = name.rpartition("/")
        if parent and not self.is_directory(parent):
            return None
        for entry in self.remote.list(parent):
            if entry.name == base:
                return str(entry.kind) == "directory"
        return None

    def size(self, name: str) -> int:
        with self._of_a_file(name):
            entry = self.remote.stat(name)
            if str(entry.kind) == "directory":
                raise IsADirectoryError(name)
            return int(entry.size_bytes)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._of_a_file(name):
            if length is None:
                return bytes(self.remote.get(name))[offset:]
            file = self.remote.open(name)
            try:
                buffer = memoryview(bytearray(length))
                return bytes(buffer[: file.read_into(offset, buffer)])
            finally:
                file.close()

    @contextlib.contextmanager
    def _of_a_file(self, name: str) -> Iterator[None]:
        """What went wrong is told as the system does. Only then are listings read: every block comes by here."""
        try:
            yield
        except Exception:
            self._need_file(name)
            raise

    def _need_file(self, name: str) -> None:
        match self.is_directory(name):
            case None:
                raise FileNotFoundError(name)
            case True:
                raise IsADirectoryError(name)


class DecryptedTree:
    """Xen Orchestra's encryption: a file is ``iv(12) + ciphertext + tag(16)``, chacha20-poly1305 or aes-256-gcm."""

    PLAIN = ("encryption.json", "immutability.json")

    def __init__(self, source: Any, key: str, algorithm: str = "chacha20-poly1305") -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

        self.tree = tree_of(source)
        cipher = ChaCha20Poly1305 if algorithm == "chacha20-poly1305" else AESGCM
        self.cipher = cipher(key.encode())

    def list(self, directory: str) -> dict[str, bool]:
        return self.tree.list(directory)

    def is_directory(self, name: str) -> bool | None:
        return self.tree.is_directory(name)

    def size(self, name: str) -> int:
        return self.tree.size(name) - (0 if name in self.PLAIN else 28)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        blob = self.tree.read(name)
        plain = blob if name in self.PLAIN else self.cipher.decrypt(blob[:12], blob[12:], None)
        return plain[offset:] if length is None else plain[offset : offset + length]
