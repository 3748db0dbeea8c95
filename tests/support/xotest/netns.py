"""Sites as network namespaces: machines that reach only what their routes say, over lines that can be cut.

One namespace is the *hub*. It has the addresses of what everybody talks to (:data:`DATABASE`, :data:`POOLS`), and
forwards between machines. A :class:`Machine` has two lines to it: ``lan`` leads to the pool of its site and nowhere
else, ``wan`` to the database and to the other machines. A control node, of no site, reaches all pools over ``wan``. A
line that is cut swallows what is sent, as a broken cable does: nobody is told.

Needs root and iproute2. Everything has a name with the number of this process, so that several runs do not meet.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DATABASE = "10.77.0.1"
POOLS = {"paris": "10.77.1.1", "lyon": "10.77.2.1"}
WAN_NETS = "10.77.128.0/17"
"""Addresses of machines on their lines to each other."""
CLONE_NEWNET = 0x40000000
ADVICE = "network namespaces need root and iproute2: apt-get install -y --no-install-recommends iproute2"


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"


class Machine:
    """One namespace. ``address``: where other machines reach it."""

    def __init__(self, hub: Hub, name: str, site: str, number: int) -> None:
        self.name, self.site = name, site
        self.space = f"{hub.prefix}{name}"
        self.address = f"10.77.{128 + number}.2"
        self._hub = hub
        self._links = {"wan": f"w{number}{hub.mark}"}
        self._add("wan", f"10.77.{128 + number}")
        gateway = f"10.77.{128 + number}.1"
        for where in (f"{DATABASE}/32", WAN_NETS, *([] if site else [f"{one}/32" for one in POOLS.values()])):
            _ip("-n", self.space, "route", "add", where, "via", gateway)
        if site:
            self._links["lan"] = f"l{number}{hub.mark}"
            self._add("lan", f"10.77.{10 + number}")
            _ip("-n", self.space, "route", "add", f"{POOLS[site]}/32", "via", f"10.77.{10 + number}.1")

    def _add(self, line: str, net: str) -> None:
        if line == "wan":
            _ip("netns", "add", self.space)
            _ip("-n", self.space, "link", "set", "lo", "up")
        far = self._links[line]
        _ip("-n", self._hub.space, "link", "add", far, "type", "veth", "peer", "name", line, "netns", self.space)
        for space, device, address in ((self._hub.space, far, f"{net}.1/24"), (self.space, line, f"{net}.2/24")):
            _ip("-n", space, "address", "add", address, "dev", device)
            _ip("-n", space, "link", "set", device, "up")

    def command(self, *command: str) -> list[str]:
        """``command`` as it is run on this machine; the process is the same one."""
        return ["ip", "netns", "exec", self.space, *command]

    def cut(self, line: str) -> None:
        """``lan`` or ``wan``: nothing comes through any more, and nobody is told."""
        _ip("-n", self._hub.space, "link", "set", self._links[line], "down")

    def mend(self, line: str) -> None:
        _ip("-n", self._hub.space, "link", "set", self._links[line], "up")


class Hub:
    """See the module's head."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex[:6]
        self.prefix = f"xo{os.getpid()}{self.mark}-"
        self.space = f"{self.prefix}hub"
        self.machines: dict[str, Machine] = {}
        _ip("netns", "add", self.space)
        _ip("-n", self.space, "link", "set", "lo", "up")
        for address in (DATABASE, *POOLS.values()):
            _ip("-n", self.space, "address", "add", f"{address}/32", "dev", "lo")
        with self.entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def machine(self, name: str, *, site: str = "") -> Machine:
        """A new one; without a site it reaches the pools of all."""
        made = self.machines[name] = Machine(self, name, site, len(self.machines))
        return made

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets and processes that this thread makes within are the hub's."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        inside = os.open(f"/run/netns/{self.space}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(inside)
            yield
        finally:
            _enter(before)
            os.close(inside)
            os.close(before)

    def close(self) -> None:
        for space in [one.space for one in self.machines.values()] + [self.space]:
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True, timeout=30)


def _enter(namespace: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def hub() -> Iterator[Hub]:
    """Skips, and in CI fails, where there can be none."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        if os.environ.get("CI"):
            pytest.fail(ADVICE)
        pytest.skip(ADVICE)
    made = Hub()
    try:
        yield made
    finally:
        made.close()
