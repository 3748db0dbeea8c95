"""The directories of a remote in memory: nodes by name, with the errors a POSIX file system would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from remotes import errors, names
from remotes.memory_content import Content


class File:
    __slots__ = ("content", "modified_s")

    def __init__(self, content: Content, modified_s: float) -> None:
        self.content = content
        self.modified_s = modified_s


class Directory:
    __slots__ = ("children", "modified_s")

    def __init__(self, modified_s: float) -> None:
        self.children: dict[str, File | Directory] = {}
        self.modified_s = modified_s


Node = File | Directory


class Tree:
    """Not thread-safe by itself; the remote holds its lock."""

    def __init__(self, remote: str, now_s: Callable[[], float]) -> None:
        self._remote = remote
        self._now_s = now_s
        self._root = Directory(now_s())

    def copy(self, content: Callable[[Content], Content | None]) -> Tree:
        """A copy with every file's content passed through ``content``; None leaves the file out."""

        def copied(directory: Directory) -> Directory:
            twin = Directory(directory.modified_s)
            for base, node in directory.children.items():
                if isinstance(node, Directory):
                    twin.children[base] = copied(node)
                    continue
                kept = content(node.content)
                if kept is not None:
                    twin.children[base] = File(kept, node.modified_s)
            return twin

        tree = Tree(self._remote, self._now_s)
        tree._root = copied(self._root)
        return tree

    def allocated_bytes(self) -> int:
        return sum(file.content.allocated_bytes for file in _files(self._root))

    def node(self, name: str) -> Node:
        found: Node = self._root
        for part in name.split("/") if name else ():
            if not isinstance(found, Directory):
                raise errors.NotADirectory(self._remote, name)
            if part not in found.children:
                raise errors.NotFound(self._remote, name)
            found = found.children[part]
        return found

    def directory(self, name: str) -> Directory:
        found = self.node(name)
        if isinstance(found, File):
            raise errors.NotADirectory(self._remote, name)
        return found

    def file(self, name: str) -> File:
        found = self.node(name)
        if isinstance(found, Directory):
            raise errors.IsADirectory(self._remote, name)
        return found

    def parent(self, name: str, *, make: bool = False) -> tuple[Directory, str]:
        """The directory ``name`` is in, made if asked, and its base name."""
        path, base = names.split(name)
        directory = self._root
        for part in path.split("/") if path else ():
            directory = self.child_directory(directory, part, name, make=make)
        return directory, base

    def child_directory(self, parent: Directory, base: str, name: str, *, make: bool) -> Directory:
        found = parent.children.get(base)
        if found is None:
            if not make:
                raise errors.NotFound(self._remote, name)
            found = Directory(self._now_s())
            self.link(parent, base, found)
        if isinstance(found, File):
            raise errors.NotADirectory(self._remote, name)
        return found

    def link(self, parent: Directory, base: str, node: Node) -> None:
        parent.children[base] = node
        parent.modified_s = self._now_s()

    def unlink(self, name: str, node: Node) -> None:
        parent, base = self.parent(name)
        assert parent.children[base] is node
        del parent.children[base]
        parent.modified_s = self._now_s()

    def rename(self, old: str, new: str, *, replace: bool) -> None:
        if new.startswith(f"{old}/"):
            raise errors.InvalidName(self._remote, new, f"cannot move {old!r} into itself")
        node = self.node(old)
        parent, base = self.parent(new, make=True)
        existing = parent.children.get(base)
        if existing is not None:
            if not replace or isinstance(node, Directory):
                raise errors.AlreadyExists(self._remote, new)
            if isinstance(existing, Directory):
                raise errors.IsADirectory(self._remote, new)
        self.unlink(old, node)
        self.link(parent, base, node)
        if isinstance(node, File):
            node.content.linked = True


def _files(directory: Directory) -> Iterator[File]:
    for node in directory.children.values():
        if isinstance(node, File):
            yield node
        else:
            yield from _files(node)
