"""Any program of operations has the same results on the memory remote as on a real file system."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from remotes import errors
from remotes.contract import Remote
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote

names = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)
offsets = st.integers(0, 10_000) | st.sampled_from([0, 4096, 8192])
Step = tuple[str, Callable[[Remote], object]]


def written(remote: Remote, name: str, offset: int, length: int, new: bool) -> int:
    with contextlib.closing(remote.create(name) if new else remote.update(name)) as file:
        file.write_at(offset, b"w" * length)
        file.sync()
        return file.size()


def truncated(remote: Remote, name: str, size: int) -> int:
    with contextlib.closing(remote.update(name)) as file:
        file.truncate(size)
        file.sync()
        return file.size()


def copied(remote: Remote, source: str, target: str, source_offset: int, offset: int, length: int) -> int:
    with contextlib.closing(remote.open(source)) as one, contextlib.closing(remote.update(target)) as other:
        if source_offset + length > one.size() or source == target:
            return -1
        other.copy_range(one, source_offset, offset, length)
        other.sync()
        return other.size()


steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda name, size, replace: (
            f"put {name} {size} replace={replace}",
            lambda remote: remote.put(name, b"p" * size, replace=replace),
        ),
        names,
        st.sampled_from([0, 10, 5000]),
        st.booleans(),
    ),
    st.builds(lambda name: (f"get {name}", lambda remote: remote.get(name)), names),
    st.builds(lambda name: (f"delete {name}", lambda remote: remote.delete(name)), names),
    st.builds(lambda n: (f"delete? {n}", lambda remote: remote.delete(n, missing_ok=True)), names),
    st.builds(
        lambda old, new, replace: (
            f"rename {old} {new} replace={replace}",
            lambda remote: remote.rename(old, new, replace=replace),
        ),
        names,
        names,
        st.booleans(),
    ),
    st.builds(
        lambda name, ok: (f"mkdir {name} {ok}", lambda remote: remote.make_directory(name, exist_ok=ok)),
        names,
        st.booleans(),
    ),
    st.builds(lambda name: (f"rmdir {name}", lambda remote: remote.remove_directory(name)), names),
    st.builds(lambda name: (f"rmtree {name}", lambda remote: remote.delete_tree(name)), names),
    st.builds(lambda name: (f"touch {name}", lambda remote: remote.touch(name) > 0), names),
    st.builds(
        lambda name, offset, length, new: (
            f"write {name} {offset} {length} new={new}",
            lambda remote: written(remote, name, offset, length, new),
        ),
        names,
        offsets,
        offsets,
        st.booleans(),
    ),
    st.builds(lambda n, size: (f"truncate {n} {size}", lambda remote: truncated(remote, n, size)), names, offsets),
    st.builds(
        lambda one, other, source_offset, offset, length: (
            f"copy {one} {source_offset} {other} {offset} {length}",
            lambda remote: copied(remote, one, other, source_offset, offset, length),
        ),
        names,
        names,
        offsets,
        offsets,
        offsets,
    ),
)


def outcome(action: Callable[[Remote], object], remote: Remote) -> object:
    try:
        return action(remote)
    except errors.RemoteError as error:
        return type(error).__name__, error.name


def everything(remote: Remote, directory: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for entry in remote.list(directory):
        name = f"{directory}/{entry.name}" if directory else entry.name
        found[name] = entry.kind
        if entry.kind == "directory":
            found |= everything(remote, name)
        else:
            assert entry.size_bytes == remote.stat(name).size_bytes
            found[name] = remote.get(name)
    return found


@settings(max_examples=120)
@given(st.lists(steps, max_size=12))
def test_the_memory_remote_does_what_a_file_system_does(program: list[Step]) -> None:
    directory = Path(tempfile.mkdtemp(prefix="xotest-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    local, memory = LocalRemote(directory), MemoryRemote()
    try:
        for text, action in program:
            assert outcome(action, local) == outcome(action, memory), text
            assert everything(local) == everything(memory), text
        twin = memory.snapshot()
        assert everything(twin) == everything(local)
    finally:
        local.close()
        shutil.rmtree(directory)
