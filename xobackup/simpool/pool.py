"""A simulated pool, running: real HTTPS on loopback, real VHDs in a directory.

with SimPool.start(tmp_path / "pool") as pool:
    client(pool.url, pool.username, pool.password, pool.fingerprint_sha256)
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vhd.block import BLOCK_BYTES
from xobackup.clock import Clock, SystemClock
from xobackup.simpool import gc
from xobackup.simpool.build import IPV6, build_pool
from xobackup.simpool.build_storage import FOREIGN
from xobackup.simpool.content import Expectations, Source
from xobackup.simpool.disks import refresh_sr
from xobackup.simpool.dispatch import Dispatcher
from xobackup.simpool.faults import Faults
from xobackup.simpool.host_server import HostServer, Where
from xobackup.simpool.http.certificate import ensure_certificate, fingerprint_sha256, server_context
from xobackup.simpool.messages.vm_life import stop_vm
from xobackup.simpool.options import Options
from xobackup.simpool.spec import PoolSpec
from xobackup.simpool.state import load_state, replace_tables, save_state, saved_hosts, state_path
from xobackup.simpool.toolstack import Toolstack
from xobackup.simpool.workload import Profile, Workload

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from xobackup.simpool.database import Database, Record
    from xobackup.simpool.http.server import HttpServer
    from xobackup.simpool.journal import Journal
    from xobackup.simpool.nbd.server import NbdServer
    from xobackup.simpool.storage.composed import ComposedDisk

JOIN_TIMEOUT_S = 5.0


class NotAttached(Exception):
    """A guest that does not run cannot write."""


class SimPool:
    """One pool and its server. :meth:`start` it, use it as a context manager."""

    def __init__(self, directory: Path, spec: PoolSpec, options: Options, clock: Clock, seed: int) -> None:
        self.directory = directory
        self.spec = spec
        self.username, self.password = spec.username, spec.password
        self.toolstack = Toolstack(
            clock=clock,
            seed=seed,
            options=options,
            username=spec.username,
            password=spec.password,
        )
        self.toolstack.restart_into = self.restart_into
        self.dispatcher = Dispatcher(self.toolstack)
        self.expectations = Expectations(self.toolstack, directory)
        self.servers: list[HostServer] = []
        self.reopened = False
        self._collector: gc.Collector | None = None

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        spec: PoolSpec | None = None,
        clock: Clock | None = None,
        seed: int = 0,
        port: int = 0,
        tls: bool = True,
        nbd_port: int = 0,
        address: str = "127.0.0.1",
        options: Options | None = None,
    ) -> SimPool:
        """Build the pool in ``directory``, or reopen the one that is there, and serve it."""
        directory.mkdir(parents=True, exist_ok=True)
        reopened = state_path(directory).exists()
        spec = (spec or PoolSpec()).with_hosts(saved_hosts(directory)) if reopened else spec or PoolSpec()
        pool = cls(directory, spec, options or Options(), clock or SystemClock(), seed)
        pool.reopened = reopened
        try:
            pool._listen(Where(address=address, port=port, nbd_port=nbd_port), tls=tls)
            addresses = [server.address for server in pool.servers]
            if pool.reopened:
                load_state(pool.toolstack, directory, addresses=addresses)
            else:
                build_pool(pool.toolstack, pool.spec, directory, addresses=addresses)
            pool._serve()
        except BaseException:
            for server in pool.servers:
                server.close()
            raise
        return pool

    def _listen(self, where: Where, *, tls: bool) -> None:
        certificate, key = ensure_certificate(self.directory)
        self.ca_pem_path = certificate
        self.fingerprint_sha256 = fingerprint_sha256(certificate)
        toolstack = self.toolstack
        toolstack.certificate_pem = certificate.read_text()
        toolstack.scheme = "https" if tls else "http"
        context = server_context(certificate, key, tls13=toolstack.options.tls13)
        for number, host in enumerate(self.spec.hosts):
            wanted = where if number == 0 else Where(address=where.address)
            wanted = replace(wanted, ipv6=IPV6 if host.ipv6 else "")
            self.servers.append(
                HostServer(toolstack, self.dispatcher, tls=context, plain=not tls, where=wanted),
            )

    def _serve(self) -> None:
        toolstack = self.toolstack
        hosts = toolstack.database.refs("host")
        for server, host in zip(self.servers, hosts, strict=False):
            server.start(host)
        for server, spec in zip(self.servers, self.spec.hosts, strict=True):
            if spec.down:
                server.go_down()
        if toolstack.options.auto_gc_s is not None:
            self._collector = gc.Collector(toolstack, toolstack.options.auto_gc_s)
            self._collector.start()

    # -- who and where

    @property
    def server(self) -> HttpServer:
        """The HTTPS server of the first host, the master unless another was designated."""
        return self.servers[0].http

    @property
    def nbd(self) -> NbdServer:
        """The first host's NBD server."""
        return self.servers[0].nbd

    def host_server(self, name: str) -> HostServer:
        """A host's servers by its name: ``go_down()``, ``come_back()``, ``address``. Raises ``KeyError``."""
        with self.model.lock:
            for server in self.servers:
                if self.model.get("host", server.host)["name_label"] == name:
                    return server
        raise KeyError(name)

    @property
    def server_address(self) -> str:
        """Host and port, as redirects and ``host.address`` name the pool."""
        return self.servers[0].address

    @property
    def url(self) -> str:
        return f"{self.toolstack.scheme}://{self.server_address}"

    @property
    def model(self) -> Database:
        """The database: ``pool.model.get("VM", ref)``, ``pool.model.records("VDI")``."""
        return self.toolstack.database

    @property
    def faults(self) -> Faults:
        return self.toolstack.faults

    @property
    def journal(self) -> Journal:
        return self.toolstack.journal

    # -- asking and acting from inside, without a client

    def call(self, method: str, *args: Any) -> Any:
        """A call as root with a session of its own."""
        session = self.toolstack.sessions.login(self.username, self.password, "simpool")
        try:
            return self.dispatcher.call(method, [session, *args])
        finally:
            self.toolstack.sessions.end(session)

    def vm_named(self, name: str) -> str:
        """The VM (no snapshot) with this name. Raises ``KeyError``."""
        with self.model.lock:
            for ref, _ in self.model.where("VM", name_label=name, is_a_snapshot=False):
                return ref
        raise KeyError(name)

    def sr_named(self, name: str) -> str:
        with self.model.lock:
            for ref, _ in self.model.where("SR", name_label=name):
                return ref
        raise KeyError(name)

    @property
    def default_sr(self) -> str:
        return str(self.model.get("pool", self.toolstack.pool)["default_SR"])

    def vdis_of(self, vm: str) -> list[str]:
        """A VM's disks by their device numbers, CD drives left out."""
        with self.model.lock:
            vbds = [self.model.get("VBD", vbd) for vbd in self.model.get("VM", vm)["VBDs"]]
            wanted = [vbd for vbd in vbds if vbd["type"] == "Disk" and not vbd["empty"]]
            return [vbd["VDI"] for vbd in sorted(wanted, key=lambda vbd: int(vbd["userdevice"]))]

    def read_disk(self, vdi: str) -> ComposedDisk:
        """The disk as a guest sees it; use it as a context manager."""
        store = self.toolstack.store_of(vdi)
        if store is None:
            raise KeyError(f"{vdi} has no data")
        return store.disk(self.model.get("VDI", vdi)["uuid"])

    def disk_bytes(self, vdi: str, offset: int = 0, length: int | None = None) -> bytes:
        with self.read_disk(vdi) as disk:
            return disk.read(offset, disk.virtual_size_bytes - offset if length is None else length)

    def disk_sha256(self, vdi: str) -> str:
        """Digest of the whole disk, read in blocks."""
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(BLOCK_BYTES))
        with self.read_disk(vdi) as disk:
            for offset in range(0, disk.virtual_size_bytes, BLOCK_BYTES):
                view = buffer[: disk.virtual_size_bytes - offset]
                disk.read_into(offset, view)
                digest.update(view)
        return digest.hexdigest()

    def write_disk(
        self, vdi: str, offset: int, data: bytes | memoryview, *, force: bool = False, source: Source | None = None
    ) -> None:
        """A guest's write; only to a disk of a running VM unless forced. ``source`` can make the bytes again."""
        with self.model.lock:
            record = self.model.get("VDI", vdi)
            if not force and not self._held_by_guest(record):
                raise NotAttached(f"{record['name_label']} is not attached to a running VM")
            store = self.toolstack.store_of(vdi)
            if store is None:
                raise KeyError(f"{vdi} has no data")
            uuid = record["uuid"]
            store.write(uuid, offset, data)
            self.toolstack.written(vdi, offset, data, source)

    def write_from(self, vdi: str, offset: int, source: Source) -> None:
        """A guest's write whose bytes can be made again, so that remembering it costs nothing."""
        self.write_disk(vdi, offset, source.read(0, source.length), source=source)

    def expected_sha256(self, vdi: str) -> str:
        """What :meth:`disk_sha256` must give, known from the writes alone."""
        return self.expectations.of(vdi).sha256()

    def workload(self, vm: str, seed: int, profile: Profile | None = None) -> Workload:
        """A deterministic guest for a running VM."""
        return Workload(self, vm, seed, profile)

    def _held_by_guest(self, record: Record) -> bool:
        for vbd in record["VBDs"]:
            held = self.model.get("VBD", vbd)
            if held["currently_attached"] and held["mode"] == "RW":
                return True
        return False

    def fill_sr(self, sr: str, free_bytes: int = 0) -> None:
        """Let something that is no disk take up all but ``free_bytes`` of a repository."""
        store = self.toolstack.stores[sr]
        with self.model.lock:
            store.foreign_bytes = 0
            store.foreign_bytes = max(0, store.physical_size - store.used_bytes - free_bytes)
            self.model.set_key("SR", sr, "other_config", FOREIGN, str(store.foreign_bytes))
            refresh_sr(self.toolstack, sr)

    def gc(self, sr: str | None = None) -> list[gc.Step]:
        """Collect a repository's garbage (the default one's) until nothing is left to do."""
        return gc.collect(self.toolstack, sr or self.default_sr)

    def crash_vm(self, vm: str) -> None:
        """As after a crash of its host: halted, its disks' change logs never closed."""
        with self.model.lock:
            disks = self.vdis_of(vm)
            stop_vm(self.toolstack, vm)
            for vdi in disks:
                self.toolstack.change_logs.crashed(vdi)

    def restart_toolstack(self, boot_s: float = 0.0) -> None:
        """Connections, tasks of clients, then sessions end: who finds an old session ended is through.

        For ``boot_s`` every call is answered with ``HOST_STILL_BOOTING``.
        """
        self.toolstack.boots_until_s = self.toolstack.clock.monotonic_s() + boot_s
        for server in self.servers:
            server.http.drop_connections()
        self.toolstack.tasks.restarted()
        self.toolstack.sessions.end_all()

    def restart_into(self, tables: dict[str, dict[str, Record]]) -> None:
        """Another database on the same storage: the master boots into it; sessions, tasks and connections end."""
        replace_tables(self.toolstack, tables)
        toolstack = self.toolstack
        with toolstack.database.lock:
            now = f"{toolstack.clock.now_s():.6f}"
            config = toolstack.database.get("host", toolstack.master)["other_config"]
            booted = {**config, "agent_start_time": now, "boot_time": now}
            toolstack.database.update("host", toolstack.master, other_config=booted)
        self.restart_toolstack()

    # -- the end

    def save(self) -> None:
        """Write the database beside the disks, so that the pool can be reopened."""
        save_state(self.toolstack, self.directory)

    def close(self) -> None:
        """Stop serving and save."""
        toolstack = self.toolstack
        toolstack.closing.set()
        toolstack.faults.end_silence()
        with toolstack.database.lock:
            toolstack.database.changed.notify_all()
        for server in self.servers:
            server.close()
        if self._collector is not None:
            self._collector.close()
        self.dispatcher.join(JOIN_TIMEOUT_S)
        self.save()
        self.expectations.close()

    def __enter__(self) -> SimPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
