"""A PostgreSQL server of a test's own: in a directory, on a socket, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ADVICE = "PostgreSQL's server is missing: apt-get install -y --no-install-recommends postgresql"


def _programs() -> Path:
    """Debian keeps them out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    inpath = shutil.which("initdb")
    if inpath:
        return Path(inpath).parent
    if os.environ.get("CI"):
        pytest.fail(ADVICE)
    pytest.skip(ADVICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """``url``: of its database ``postgres``. It may be stopped, and started again with what it had."""

    url: str
    stop: Callable[[], None]
    start: Callable[[], None]


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of one that is there all the time."""
    with stoppable_postgres() as server:
        yield server.url


@contextmanager
def stoppable_postgres(listen: str = "", trusted: str = "") -> Iterator[PostgresServer]:
    """In a short path, because sockets have them. ``listen``: an address besides, where ``trusted`` (a network) may
    come from."""
    programs = _programs()
    user = pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else None  # it refuses to run as root
    directory = Path(tempfile.mkdtemp(prefix="xopg."))
    if user:
        shutil.chown(directory, user)
    data = directory / "data"

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(programs / program), *arguments],
            user=user,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    try:
        run("initdb", "-D", str(data), "-A", "trust", "-U", "xobackup", "--no-sync", "-E", "UTF8")
        if trusted:
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {trusted} trust\n")
        options = f"-k {directory} -c listen_addresses={listen} -c fsync=off -c shared_buffers=16MB"

        def start() -> None:
            run("pg_ctl", "-D", str(data), "-w", "-l", str(directory / "log"), "-o", options, "start")

        def stop() -> None:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")

        start()
        try:
            url = f"postgresql://xobackup@/postgres?host={directory}"
            yield PostgresServer(url=url, stop=stop, start=start)
        finally:
            if (data / "postmaster.pid").exists():
                stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
