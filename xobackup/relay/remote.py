"""A remote of another site, read through a relay there: a :class:`remotes.contract.Remote` that cannot be written.

A cut connection is made anew and the read goes on from where it was, so the reader notices nothing for as long as
:class:`~xobackup.relay.lines.Lines` has patience. A file that was open is still the same one then, because the relay
keeps it; where it cannot (its process is another one now), the file is opened again by its name and has to be as long
and as old as before. If it is not, reading it fails, as unavailable: what it holds now is not known to be what was
begun, and that must not look like damage.
"""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn, TypeVar

from remotes import errors, names
from remotes.contract import Buffer, Capabilities, Entry, Kind, Usage, WritableFile
from xobackup.relay.errors import BadFrame, LineLost, Refused, RelayError, read_error
from xobackup.relay.frames import DATA
from xobackup.relay.lines import LINES, Line, Lines, NotOpened

T = TypeVar("T")
Take = Callable[[Line, Callable[[], None]], T]

HINT = "the line between the sites, the relay's log, `xobackup workers`"
CONTENT_MAX = 128 << 20
"""As the relay has it."""


class RelayRemote:
    """See the module's head. Asks for nothing before it is used, but for what it can do."""

    def __init__(self, lines: Lines, *, url: str) -> None:
        """``url``: what error messages show."""
        self._lines = lines
        self._url = url
        self._capabilities: Capabilities | None = None
        self._guard = threading.Lock()

    @property
    def url(self) -> str:
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        """What the far remote can do for who reads; nothing of what is for writing."""
        with self._guard:
            if self._capabilities is None:
                greeting = self._asked("", lambda line, _heard: line.greeting)
                self._capabilities = read_capabilities(greeting.get("capabilities"))
            return self._capabilities

    # -- reading

    def list(self, directory: str) -> builtins.list[Entry]:
        names.validate_directory(directory, remote=self._url)
        content, end = self._content({"do": "list", "name": directory}, directory)
        found = [_entry(one) for piece in content for one in _array(piece)]
        if len(found) != end.get("entries"):
            raise self._strange(directory, f"expected {end.get('entries')} entries, found {len(found)}")
        return found

    def stat(self, name: str) -> Entry:
        names.validate(name, remote=self._url)
        _, end = self._content({"do": "stat", "name": name}, name)
        return _entry(end.get("entry"))

    def get(self, name: str, *, limit_bytes: int | None = None) -> bytes:
        names.validate(name, remote=self._url)
        content, end = self._content({"do": "get", "name": name, "limit_bytes": limit_bytes}, name)
        found = b"".join(content)
        if len(found) != end.get("size_bytes"):
            raise self._strange(name, f"expected {end.get('size_bytes')} bytes, found {len(found)}")
        return found

    def open(self, name: str) -> RelayFile:
        names.validate(name, remote=self._url)
        return RelayFile(self, name, self.opened(name))

    def usage(self) -> Usage | None:
        _, end = self._content({"do": "usage"}, "")
        found = end.get("usage")
        return _made(Usage, found) if isinstance(found, dict) else None

    def wake(self) -> None:
        """Whoever waits for the relay looks whether he shall stop."""
        self._lines.wake()

    def close(self) -> None:
        self._lines.close()

    # -- for open files

    def opened(self, name: str) -> Opened:
        _, end = self._content({"do": "open", "name": name}, name)
        number = end.get("file")
        if not isinstance(number, int):
            raise self._strange(name, "expected an open file")
        return Opened(number=number, entry=_entry(end.get("entry")))

    def read_into(self, name: str, number: int, offset: int, buffer: memoryview) -> int | None:
        """How much of it is in ``buffer``; ``None``: the file is not open there."""
        at = 0

        def ask(line: Line, heard: Callable[[], None]) -> int | None:
            nonlocal at
            line.wire.say({"do": "read", "file": number, "offset": offset + at, "count": len(buffer) - at})
            while (header := line.wire.header()).kind == DATA:
                at += line.wire.data_into(header, buffer[at:])
                heard()
            end = self._end(line, line.wire.words(header))
            return None if end.get("closed") else at

        return self._asked(name, ask)

    def file_size(self, name: str, number: int) -> int | None:
        """``None``: it is not open there."""
        _, end = self._content({"do": "size", "file": number}, name)
        return None if end.get("closed") else int(end.get("size_bytes", 0))

    def shut(self, number: int) -> None:
        with suppress(errors.RemoteError):
            self._content({"do": "shut", "file": number}, "")

    # -- inside

    def _content(self, question: Mapping[str, Any], name: str) -> tuple[Sequence[bytes], dict[str, Any]]:
        """Ask; the data of the answer, and its words."""

        def ask(line: Line, heard: Callable[[], None]) -> tuple[Sequence[bytes], dict[str, Any]]:
            content, size = [], 0
            line.wire.say(question)
            while (header := line.wire.header()).kind == DATA:
                content.append(line.wire.data(header))
                size += header.plain_bytes
                if size > CONTENT_MAX:
                    raise BadFrame(f"expected at most {CONTENT_MAX} bytes")
                heard()
            return content, self._end(line, line.wire.words(header))

        return self._asked(name, ask)

    def _end(self, line: Line, end: dict[str, Any]) -> dict[str, Any]:
        error = end.get("error")
        if isinstance(error, dict):
            line.wire.set_timeout(self._lines.silence_s)
            if error.get("class") == "Refused":
                raise Refused(str(error.get("problem")), transient=error.get("transient") is True)
            raise _Answered(read_error(error, self._url))
        return end

    def _asked(self, name: str, ask: Take[T]) -> T:
        def keeping(line: Line, heard: Callable[[], None]) -> T | errors.RemoteError:
            try:
                return ask(line, heard)
            except _Answered as answer:  # the line is well
                return answer.error

        try:
            found = self._lines.use(keeping)
        except NotOpened as error:
            raise read_error(error.told, self._url) from error
        except Refused as error:
            raise errors.AccessDenied(self._url, name, str(error), hint=HINT) from error
        except LineLost as error:
            raise errors.Unavailable(self._url, name, error.problem, transient=False, hint=HINT) from error
        except RelayError as error:
            raise errors.Unavailable(self._url, name, str(error), transient=False, hint=HINT) from error
        if isinstance(found, errors.RemoteError):
            raise found
        return found

    def _strange(self, name: str, problem: str) -> errors.Unavailable:
        return errors.Unavailable(self._url, name, f"the relay's answer: {problem}", transient=False)

    # -- what cannot be done

    def _refuse(self, name: str) -> NoReturn:
        raise errors.ReadOnly(self._url, name)

    def put(self, name: str, data: Buffer, *, replace: bool = True) -> None:
        self._refuse(name)

    def create(self, name: str) -> WritableFile:
        self._refuse(name)

    def update(self, name: str) -> WritableFile:
        self._refuse(name)

    def rename(self, old: str, new: str, *, replace: bool = False) -> None:
        self._refuse(old)

    def delete(self, name: str, *, missing_ok: bool = False) -> None:
        self._refuse(name)

    def make_directory(self, name: str, *, exist_ok: bool = True) -> None:
        self._refuse(name)

    def remove_directory(self, name: str) -> None:
        self._refuse(name)

    def delete_tree(self, name: str) -> None:
        self._refuse(name)

    def touch(self, name: str) -> float:
        self._refuse(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file that a relay has open: its number there, and what it was then."""

    number: int
    entry: Entry


class RelayFile:
    """An open file of a :class:`RelayRemote`; several threads may read it."""

    def __init__(self, remote: RelayRemote, name: str, opened: Opened) -> None:
        self._remote = remote
        self._name = name
        self._opened = opened
        self._guard = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def size(self) -> int:
        return self._again(lambda number: self._remote.file_size(self._name, number))

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return self._again(lambda number: self._remote.read_into(self._name, number, offset, buffer))

    def close(self) -> None:
        self._remote.shut(self._opened.number)

    def _again(self, act: Callable[[int], int | None]) -> int:
        """``act`` with the file's number, which is another one when the relay is."""
        for _ in range(10):
            number = self._opened.number
            found = act(number)
            if found is not None:
                return found
            self._reopen(number)
        raise errors.Unavailable(self._remote.url, self._name, "the relay forgets what it has open", transient=False)

    def _reopen(self, number: int) -> None:
        with self._guard:
            if self._opened.number != number:
                return  # another thread did
            found, before = self._remote.opened(self._name), self._opened.entry
            if (found.entry.size_bytes, found.entry.modified_s) != (before.size_bytes, before.modified_s):
                self._remote.shut(found.number)
                problem = "it was changed while it was read, and the relay that had it open is gone"
                raise errors.Unavailable(self._remote.url, self._name, problem, transient=False)
            self._opened = found


class _Answered(Exception):
    """The relay answered with an error of its remote."""

    def __init__(self, error: errors.RemoteError) -> None:
        self.error = error
        super().__init__(str(error))


def read_capabilities(told: object) -> Capabilities:
    """Of a remote that is only read, ``told`` being those of the far one: nothing that is for writing."""
    data = told if isinstance(told, dict) else {}
    reading = {name: data.get(name) is True for name in ("authenticated", "hierarchical", "durable")}
    parallel = data.get("parallel")
    return Capabilities(
        random_access=False,
        range_reads=data.get("range_reads") is not False,
        atomic_rename=False,
        exclusive_directories=False,
        range_copy=False,
        conditional_put=False,
        parallel=max(LINES, parallel if isinstance(parallel, int) else 1),
        **reading,
    )


def _array(piece: bytes) -> list[Any]:
    try:
        found = json.loads(piece)
    except ValueError as error:
        raise BadFrame("expected a JSON array") from error
    if not isinstance(found, list):
        raise BadFrame("expected a JSON array")
    return found


def _entry(told: object) -> Entry:
    if not isinstance(told, dict):
        raise BadFrame("expected an entry")
    try:
        return replace(_made(Entry, told), kind=Kind(told["kind"]), size_bytes=int(told["size_bytes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadFrame(f"expected an entry: {error}") from error


def _made(kind: type[T], told: Mapping[str, Any]) -> T:
    """Unknown fields are of a newer version."""
    return kind(**{one.name: told[one.name] for one in fields(kind) if one.name in told})  # type: ignore[arg-type]
