"""The NBD server of one host, beside its HTTPS server.

Which way it speaks is asked of the pool's networks at every connection: any with purpose ``nbd`` means TLS is
required, only ``insecure_nbd`` means plain; both, or neither, and the connection is closed. A disk is named
``/<vdi uuid>?session_id=<ref>`` and held by the control domain while the connection lasts; a bad name, a bad session
or one connection too many is closed without a word.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from xobackup.simpool.attach import Dom0Attachment
from xobackup.simpool.failures import Failure
from xobackup.simpool.http.wire import Connection, Disconnected
from xobackup.simpool.listener import Client, Listener, cut
from xobackup.simpool.nbd import protocol
from xobackup.simpool.nbd.transmission import Transmission

if TYPE_CHECKING:
    import ssl

    from xobackup.simpool.storage.composed import ComposedDisk
    from xobackup.simpool.toolstack import Toolstack

IDLE_TIMEOUT_S = 3600.0
OPTION_MAX_BYTES = 4096
NAME_MAX_BYTES = 4096


class Refused(Exception):
    """The connection is to be closed without an answer."""


class NbdServer:
    """Listens on its addresses, all on one port, until :meth:`close`."""

    def __init__(
        self, toolstack: Toolstack, address: str, port: int, context: ssl.SSLContext, *, ipv6: str = ""
    ) -> None:
        self._toolstack = toolstack
        self._context = context
        self._lock = threading.Lock()
        self.host = ""
        self.connections = 0
        first = Listener(address, port, self._serve, name="nbd")
        self.address, self.port = first.address, first.port
        self._listeners = [first]
        if ipv6:
            try:
                self._listeners.append(Listener(ipv6, first.port, self._serve, name="nbd6"))
            except BaseException:
                first.close()
                raise

    def start(self, host: str) -> None:
        """Serve as this host."""
        self.host = host
        for listener in self._listeners:
            listener.start()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()

    def drop_connections(self) -> None:
        for listener in self._listeners:
            listener.drop_connections()

    def _serve(self, client: Client) -> None:
        with self._lock:
            self.connections += 1
            fits = self.connections <= self._toolstack.options.nbd_connections_max
        try:
            secured = speaks_tls(self._toolstack)
            if fits and secured is not None:
                client.sock.settimeout(IDLE_TIMEOUT_S)
                _Negotiation(self._toolstack, self.host, client, self._context if secured else None).run()
        except (Refused, Disconnected, OSError):
            pass
        finally:
            with self._lock:
                self.connections -= 1


def speaks_tls(toolstack: Toolstack) -> bool | None:
    """Whether the pool's NBD is secured; ``None``: it is not offered."""
    with toolstack.database.lock:
        purposes = {purpose for _, network in toolstack.database.where("network") for purpose in network["purpose"]}
    if len(purposes & {"nbd", "insecure_nbd"}) != 1:
        return None
    return "nbd" in purposes


class _Negotiation:
    """From the greeting to the export's name, then the transmission."""

    def __init__(self, toolstack: Toolstack, host: str, client: Client, context: ssl.SSLContext | None) -> None:
        self._toolstack = toolstack
        self._host = host
        self._client = client
        self._context = context
        self._secured = context is None
        self._zeroes = True
        self._connection = Connection(client.sock)
        self._said = 0
        """Bytes sent before TLS began."""

    def run(self) -> None:
        self._connection.send(protocol.GREETING)
        flags = int.from_bytes(self._read(4), "big")
        self._zeroes = not flags & protocol.NO_ZEROES
        while (name := self._option()) is None:
            pass
        self._export(name)

    def _option(self) -> str | None:
        """One option; the export's name when it was that."""
        magic, option, length = protocol.OPTION_HEAD.unpack(self._read(protocol.OPTION_HEAD.size))
        if magic != protocol.OPTION_MAGIC or length > OPTION_MAX_BYTES:
            raise Refused
        data = self._read(length)
        if option == protocol.OPT_EXPORT_NAME:
            if not self._secured:
                raise Refused
            return data.decode("utf-8", "replace")
        if option == protocol.OPT_ABORT:
            self._connection.send(protocol.option_reply(option, protocol.REP_ACK))
            self._connection.close()
            raise Refused
        if option == protocol.OPT_STARTTLS and not self._secured and not data:
            self._start_tls()
            return None
        self._connection.send(protocol.option_reply(option, self._refusal(option, data)))
        return None

    def _refusal(self, option: int, data: bytes) -> int:
        if option == protocol.OPT_STARTTLS:
            return protocol.ERR_INVALID if data or self._context else protocol.ERR_UNSUP
        if not self._secured:
            return protocol.ERR_TLS_REQUIRED
        return protocol.ERR_POLICY if option == protocol.OPT_LIST else protocol.ERR_UNSUP

    def _start_tls(self) -> None:
        assert self._context is not None
        self._connection.send(protocol.option_reply(protocol.OPT_STARTTLS, protocol.REP_ACK))
        sock = self._context.wrap_socket(self._client.sock, server_side=True, do_handshake_on_connect=False)
        self._client.sock, self._client.interrupt = sock, partial(cut, sock)
        sock.do_handshake()
        self._said += self._connection.sent
        self._connection = Connection(sock)
        self._secured = True

    def _read(self, count: int) -> bytes:
        found = self._connection.read_exactly(count)
        if len(found) < count:
            raise Disconnected("the client went away")
        return found

    def _export(self, name: str) -> None:
        vdi, disk = self._disk(name)
        toolstack = self._toolstack
        attachment = Dom0Attachment(toolstack, vdi, self._host, "RO")
        try:
            attachment.attach()
        except Failure as failure:
            raise Refused from failure
        at_s, started = toolstack.clock.now_s(), toolstack.clock.monotonic_s()
        work = Transmission(toolstack, self._connection, disk)
        try:
            with disk:
                self._connection.send(protocol.export_reply(disk.virtual_size_bytes, zeroes=self._zeroes))
                work.run()
        finally:
            self._connection.close()
            fault = toolstack.faults.take("linger", "nbd")
            toolstack.closing.wait(toolstack.options.dom0_linger_s if fault is None else fault.seconds)
            attachment.detach()
            toolstack.journal.note(
                "NBD",
                [name.partition("?")[0], work.requests, work.sent_bytes, self._said + self._connection.sent],
                at_s=at_s,
                duration_s=toolstack.clock.monotonic_s() - started,
                outcome=work.outcome,
            )

    def _disk(self, name: str) -> tuple[str, ComposedDisk]:
        """The disk behind an export's name. Raises :class:`Refused`."""
        toolstack, database = self._toolstack, self._toolstack.database
        path, _, query = name.partition("?")
        try:
            toolstack.sessions.check(next(iter(parse_qs(query).get("session_id", [])), ""))
            with database.lock:
                vdi = database.by_uuid("VDI", path.removeprefix("/"))
                record = database.get("VDI", vdi)
                store = toolstack.store_of(vdi)
                if store is None or self._host not in toolstack.hosts_of_sr(record["SR"]):
                    raise Refused
                return vdi, store.disk(record["uuid"])
        except Failure as failure:
            raise Refused from failure
