"""Questions of a reader, answered from its remote: listings, lengths, ranges. Nothing is written.

============  ==============================  ========================================================================
``do``        with                            answer: data, then words
============  ==============================  ========================================================================
list          ``name``                        JSON arrays of entries, each a frame; ``entries``: how many
stat          ``name``                        ``entry``
get           ``name``, ``limit_bytes``       the content; ``size_bytes``
open          ``name``                        ``file``: its number, ``entry``
read          ``file``, ``offset``, ``count`` the bytes; ``count``: how many, fewer at the end only
size          ``file``                        ``size_bytes``
shut          ``file``                        nothing
usage                                         ``usage``
end                                           nothing; the reader will not come again
============  ==============================  ========================================================================

Each but ``open`` and ``shut`` may be asked twice, and so is what a cut left open.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from xobackup.relay.errors import Refused
from xobackup.relay.frames import DATA_MAX

if TYPE_CHECKING:
    from remotes.contract import Entry
    from xobackup.relay.places import Reader

GET_MAX = 128 << 20
"""What is read whole is small: metadata, tables of directories, caches."""
READ_MAX = 1 << 40
ENTRIES = 120
"""Of a listing in one frame: a name has at most a few hundred bytes."""
Send = Callable[[memoryview], None]


class Answering:
    """One connection's; see the module's head. Raises errors of remotes; :class:`Refused` for what is no question."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._buffer = memoryview(bytearray(DATA_MAX))
        self._answers: dict[str, Callable[[Mapping[str, Any], Send], dict[str, Any]]] = {
            "list": self._list,
            "stat": self._stat,
            "get": self._get,
            "open": self._open,
            "read": self._read,
            "size": self._size,
            "shut": self._shut,
            "usage": self._usage,
        }

    def greeting(self) -> dict[str, Any]:
        """What the reader has to know first."""
        remote = self._reader.remote
        return {"url": remote.url, "capabilities": asdict(remote.capabilities)}

    def answer(self, question: Mapping[str, Any], send: Send) -> dict[str, Any]:
        found = self._answers.get(_text(question, "do"))
        if found is None:
            raise Refused(f"expected a question that is known, found {_text(question, 'do')[:40]!r}")
        return found(question, send)

    def _list(self, question: Mapping[str, Any], send: Send) -> dict[str, Any]:
        entries = self._reader.remote.list(_text(question, "name"))
        for piece in _pieces(entries):
            send(memoryview(json.dumps([entry_data(one) for one in piece]).encode()))
        return {"entries": len(entries)}

    def _stat(self, question: Mapping[str, Any], send: Send) -> dict[str, Any]:
        return {"entry": entry_data(self._reader.remote.stat(_text(question, "name")))}

    def _get(self, question: Mapping[str, Any], send: Send) -> dict[str, Any]:
        limit = question.get("limit_bytes")
        limit_bytes = min(int(limit), GET_MAX) if isinstance(limit, int) and limit >= 0 else GET_MAX
        found = memoryview(self._reader.remote.get(_text(question, "name"), limit_bytes=limit_bytes))
        for at in range(0, len(found), DATA_MAX):
            send(found[at : at + DATA_MAX])
        return {"size_bytes": len(found)}

    def _open(self, question: Mapping[str, Any], send: Send) -> dict[str, Any]:
        name = _text(question, "name")
        entry = self._reader.remote.stat(name)
        number, file = self._reader.open(name)
        return {"file": number, "entry": {**entry_data(entry), "size_bytes": file.size()}}

    def _read(self, question: Mapping[str, Any], send: Send) -> dict[str, Any]:
        number, offset, count = (_count(question, key) for key in ("file", "offset", "count"))
        file, count, done = self._reader.file(number), min(count, READ_MAX), 0
        if file is None:
            return {"closed": True}
        while done < count:
            view = self._buffer[: min(DATA_MAX, count - done)]
            got = file.read_into(offset + done, view)
            send(view[:got])
            done += got
            if got < len(view):
                break
        return {"count": done}

    def _size(self, question: Mapping[str, Any], send: Send) -> dict[str, Any]:
        file = self._reader.file(_count(question, "file"))
        return {"closed": True} if file is None else {"size_bytes": file.size()}

    def _shut(self, question: Mapping[str, Any], send: Send) -> dict[str, Any]:
        self._reader.forget(_count(question, "file"))
        return {}

    def _usage(self, question: Mapping[str, Any], send: Send) -> dict[str, Any]:
        usage = self._reader.remote.usage()
        return {"usage": None if usage is None else asdict(usage)}


def entry_data(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "kind": entry.kind.value}


def _pieces(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for at in range(0, len(entries), ENTRIES):
        yield entries[at : at + ENTRIES]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(question: Mapping[str, Any], key: str) -> str:
    found = question.get(key)
    if not isinstance(found, str):
        raise Refused(f"{key}: expected a text")
    return found


def _count(question: Mapping[str, Any], key: str) -> int:
    found = question.get(key)
    if not _whole(found):
        raise Refused(f"{key}: expected a whole number")
    return int(found)  # type: ignore[arg-type]
