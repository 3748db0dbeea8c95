"""How a promise of the contract is asked for and what came of it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from remotes import errors, faces, names
from remotes.clock import Clock, SystemClock
from remotes.contract import Entry, Remote

PRIVATE_DIRECTORY = ".xobackup"


class Broken(Exception):
    """The remote does not keep a promise."""


class Skipped(Exception):
    """The remote does not claim what the promise is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What came of one promise."""

    name: str
    ok: bool
    skipped: bool
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Where the promises are tried. ``directory`` exists and is empty at the start of each."""

    remote: Remote
    directory: str
    clock: Clock

    def name(self, path: str) -> str:
        return names.join(self.directory, path)

    def listed(self, path: str = "") -> list[Entry]:
        """What is in a directory. Where directories do not exist by themselves, one without files has nothing."""
        directory = self.name(path) if path else self.directory
        try:
            return self.remote.list(directory)
        except errors.NotFound:
            if self.remote.capabilities.hierarchical:
                raise
            return []

    def make_directory(self, path: str) -> None:
        """A directory that is listed: where it cannot be empty, with a file in it."""
        if self.remote.capabilities.hierarchical:
            self.remote.make_directory(self.name(path))
        else:
            self.remote.put(self.name(f"{path}/inside"), b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """``ask`` returns a remark, or raises :class:`Broken` or :class:`Skipped`."""

    name: str
    ask: Callable[[Scratch], str | None]


def promises(*asks: Callable[[Scratch], str | None]) -> tuple[Promise, ...]:
    """The promise of a function is its name."""
    return tuple(Promise(name=ask.__name__.replace("_", " "), ask=ask) for ask in asks)


def expect(claim: bool, problem: str) -> None:
    if not claim:
        raise Broken(problem)


def expect_raises(wanted: type[errors.RemoteError], action: Callable[[], object], what: str) -> None:
    """``action`` must raise exactly that error of the contract."""
    try:
        action()
    except wanted:
        return
    except errors.RemoteError as error:
        raise Broken(f"{what}: expected {wanted.__name__}, found {type(error).__name__} ({error})") from error
    raise Broken(f"{what}: expected {wanted.__name__}, found success")


def run_promise(promise: Promise, scratch: Scratch) -> Check:
    """One promise, in a directory of its own."""
    own = Scratch(remote=scratch.remote, directory=scratch.name(promise.name.replace(" ", "-")), clock=scratch.clock)
    begun_s = scratch.clock.monotonic_s()
    ok, skipped, detail = True, False, ""
    try:
        own.remote.make_directory(own.directory)
        detail = promise.ask(own) or ""
    except Skipped as reason:
        skipped, detail = True, str(reason)
    except Broken as problem:
        ok, detail = False, str(problem)
    except errors.RemoteError as error:
        ok, detail = False, f"unexpected {type(error).__name__}: {error}"
    except (OSError, ValueError) as error:
        ok, detail = False, f"an error outside the contract, {type(error).__name__}: {error}"
    return Check(
        name=promise.name,
        ok=ok,
        skipped=skipped,
        detail=detail,
        seconds=scratch.clock.monotonic_s() - begun_s,
    )


@contextlib.contextmanager
def scratch_of(remote: Remote, clock: Clock | None = None) -> Iterator[Scratch]:
    """A fresh directory on ``remote``, removed at the end."""
    directory = f"{PRIVATE_DIRECTORY}/test-{secrets.token_hex(8)}"
    faces.probe(remote)
    remote.make_directory(directory)
    try:
        yield Scratch(remote=remote, directory=directory, clock=clock or SystemClock())
    finally:
        remote.delete_tree(directory)
        with contextlib.suppress(errors.DirectoryNotEmpty, errors.NotFound):
            remote.remove_directory(PRIVATE_DIRECTORY)


def unlike(expected: bytes, found: bytes) -> str:
    """Where two contents differ, for a message."""
    if len(expected) != len(found):
        return f"expected {len(expected)} bytes, found {len(found)}"
    first = next(index for index, (one, other) in enumerate(zip(expected, found, strict=True)) if one != other)
    return f"expected {expected[first]:#04x} at byte {first}, found {found[first]:#04x}"


def expect_bytes(expected: bytes, found: bytes, what: str) -> None:
    if expected != found:
        raise Broken(f"{what}: {unlike(expected, found)}")
