"""A small NBD client of its own for tests of the simulated pool: it shows every step of the negotiation."""

from __future__ import annotations

import socket
import ssl
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from xobackup.simpool import SimPool

WAIT_MAX_S = 20.0


class Closed(Exception):
    """The server closed the connection."""


class NbdClient:
    """One connection, up to the greeting."""

    def __init__(self, pool: SimPool, port: int | None = None, *, address: str = "") -> None:
        self.pool = pool
        where = (address or pool.nbd.address, port or pool.nbd.port)
        self.sock: socket.socket = socket.create_connection(where, timeout=WAIT_MAX_S)
        self.handle = 0
        try:
            self.greeting = self.read(18)
        except Closed:
            self.sock.close()
            raise

    def read(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            try:
                piece = self.sock.recv(count - len(found))
            except ConnectionError as error:
                raise Closed from error
            if not piece:
                raise Closed(f"after {len(found)} of {count} bytes")
            found += piece
        return bytes(found)

    def flags(self, value: int = 1) -> NbdClient:
        self.sock.sendall(struct.pack(">I", value))
        return self

    def option(self, number: int, data: bytes = b"") -> int:
        """The kind of the server's reply."""
        self.send_option(number, data)
        magic, option, kind, length = struct.unpack(">QIII", self.read(20))
        assert magic == 0x3E889045565A9 and option == number and length == 0
        return int(kind)

    def send_option(self, number: int, data: bytes) -> None:
        self.sock.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)

    def start_tls(self) -> NbdClient:
        assert self.option(5) == 1
        context = ssl.create_default_context(cafile=self.pool.ca_pem_path)
        self.sock = context.wrap_socket(self.sock, server_hostname="simulated-host")
        return self

    def export(self, name: str, *, zeroes: bool = True) -> tuple[int, int]:
        """Size and flags of the export."""
        self.send_option(1, name.encode())
        size, flags = struct.unpack(">QH", self.read(10))
        if zeroes:
            assert self.read(124) == bytes(124)
        return size, flags

    def send_request(self, kind: int, offset: int, length: int) -> int:
        self.handle += 1
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, self.handle, offset, length))
        return self.handle

    def reply(self, length: int) -> tuple[int, int, bytes]:
        """Handle, error, data."""
        magic, error, handle = struct.unpack(">IIQ", self.read(16))
        assert magic == 0x67446698
        return handle, error, b"" if error else self.read(length)

    def read_at(self, offset: int, length: int) -> bytes:
        sent = self.send_request(0, offset, length)
        handle, error, data = self.reply(length)
        assert handle == sent and error == 0, f"error {error}"
        return data

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> NbdClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
