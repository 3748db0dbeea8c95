"""Promises about several users at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from remotes import errors
from remotes.conformance.suite import Broken, Scratch, Skipped, expect, expect_bytes, promises

THREADS = 8
ROUNDS = 10


def _together(job: Callable[[int], bool]) -> int:
    """How many of the threads that start at the same time say yes."""
    barrier = threading.Barrier(THREADS)

    def start(number: int) -> bool:
        barrier.wait(timeout=60)
        return job(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(start, range(THREADS)))


def one_of_several_gets_a_lock(scratch: Scratch) -> str:
    remote = scratch.remote
    if not remote.capabilities.exclusive_directories:
        raise Skipped("this remote has no exclusive directories")
    for attempt in range(ROUNDS):
        name = scratch.name(f"{attempt}.lock")

        def take(_number: int, name: str = name) -> bool:
            try:
                remote.make_directory(name, exist_ok=False)
            except errors.AlreadyExists:
                return False
            return True

        winners = _together(take)
        expect(winners == 1, f"expected one winner of {THREADS}, found {winners}")
    return f"{ROUNDS} rounds of {THREADS} threads"


def one_of_several_puts_a_new_name(scratch: Scratch) -> None:
    remote = scratch.remote
    if not remote.capabilities.conditional_put:
        raise Skipped("this remote cannot refuse a name that somebody else takes at the same time")
    for attempt in range(ROUNDS):
        name = scratch.name(f"{attempt}")
        won: list[bytes] = []

        def put(number: int, name: str = name, won: list[bytes] = won) -> bool:
            content = str(number).encode()
            try:
                remote.put(name, content, replace=False)
            except errors.AlreadyExists:
                return False
            won.append(content)
            return True

        winners = _together(put)
        expect(winners == 1, f"expected one winner of {THREADS}, found {winners}")
        expect_bytes(won[0], remote.get(name), "the winner's content")


def a_reader_sees_the_old_or_the_new_content(scratch: Scratch) -> str:
    remote, name = scratch.remote, scratch.name("object")
    contents = [bytes([letter]) * 300_000 for letter in b"ABC"]
    remote.put(name, contents[0])
    reads = 0
    writing = threading.Event()
    writing.set()

    def write() -> None:
        try:
            for number in range(30):
                remote.put(name, contents[number % len(contents)])
        finally:
            writing.clear()

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(write)
        while writing.is_set():
            found = remote.get(name)
            reads += 1
            if found not in contents:
                raise Broken(f"a reader saw {len(found)} bytes of {set(found)!r}")
        writer.result()
    return f"{reads} reads beside 30 writes"


def directories_are_made_by_several_at_once(scratch: Scratch) -> None:
    remote = scratch.remote

    def put(number: int) -> bool:
        remote.put(scratch.name(f"a/b/c/{number}"), str(number).encode())
        remote.make_directory(scratch.name("x/y/z"))
        return True

    _together(put)
    found = [entry.name for entry in remote.list(scratch.name("a/b/c"))]
    expect(found == [str(number) for number in range(THREADS)], f"expected {THREADS} names, listed {found}")


def several_write_one_file(scratch: Scratch) -> None:
    remote = scratch.remote
    if not remote.capabilities.random_access:
        raise Skipped("this remote has only whole objects")
    part = 256 << 10
    with contextlib.closing(remote.create(scratch.name("file"))) as file:

        def write(number: int) -> bool:
            for index in range(number, 4 * THREADS, THREADS):
                file.write_at(index * part, bytearray([number]) * part)
                file.written(index * part, part)
            return True

        _together(write)
        file.sync()
    wanted = b"".join(bytes([index % THREADS]) * part for index in range(4 * THREADS))
    expect_bytes(wanted, remote.get(scratch.name("file")), "after all wrote")


PROMISES = promises(
    one_of_several_gets_a_lock,
    one_of_several_puts_a_new_name,
    a_reader_sees_the_old_or_the_new_content,
    directories_are_made_by_several_at_once,
    several_write_one_file,
)
