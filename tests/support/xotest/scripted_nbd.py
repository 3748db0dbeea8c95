"""An NBD server that speaks exactly XAPI's dialect, and misbehaves on demand.

Fixed newstyle with EXPORT_NAME, ABORT, LIST (refused) and STARTTLS; every other option is unsupported. READ_ONLY,
simple replies, 124 zeros after the export, at most 16 connections, and a connection without a reply when the export's
name is not (any more) known. ``plans`` say what goes wrong, one per connection in the order of their coming.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType

from xobackup.xapi.nbd.target import NbdTarget
from xotest.certificates import Certificate

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_STARTTLS = 1, 2, 3, 5
ERR_UNSUP, ERR_POLICY = (1 << 31) + 1, (1 << 31) + 2
CONNECTIONS_MAX = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens on one connection."""

    close_at: str = ""
    """"accept", "greeting", "options" or "name": closes there without a word."""
    drop_after: int | None = None
    """Break the connection after that many answers."""
    silent_after: int | None = None
    """Answer that many reads, then nothing."""
    part_of_answer: bool = False
    """With ``drop_after``: half of one more answer goes out first."""
    greeting: bytes | None = None
    """Sent instead of all."""
    size_bytes: int | None = None
    """The size announced."""
    padding: bytes = bytes(124)


@dataclass
class ScriptedNbd:
    """Start it as a context manager."""

    content: bytes
    certificate: Certificate | None = None
    subject: str = "localhost"
    hold: int = 1
    """Answer only when that many requests wait on a connection, or all that are ``due``."""
    due: int | None = None
    """How many reads there will be in all; needed with ``hold``."""
    backwards: bool = False
    """The last request that waits is answered first."""
    names: list[str] = field(default_factory=lambda: ["/disk?session_id=OpaqueRef:first"])
    """The last one is valid."""
    plans: deque[Plan] = field(default_factory=deque)
    errors: dict[int, deque[int]] = field(default_factory=dict)
    """errno values to answer for a read at that offset, one by one."""

    def __enter__(self) -> ScriptedNbd:
        self.options: list[int] = []
        self.reads: list[tuple[int, int]] = []
        self.accepted = 0
        self.open = 0
        self.open_max = 0
        self.waiting_max = 0
        self.goodbyes = 0
        self.tls_goodbyes = 0
        self.asked = 0
        self._answered = 0
        self._lock = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._listener)
        with self._lock:
            self._lock.wait_for(lambda: self.open == 0, timeout=2)  # what clients sent last is still heard
            sockets = list(self._sockets)
        for sock in sockets:
            _end(sock)
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(10)

    def targets(self) -> list[NbdTarget]:
        """What ``get_nbd_info`` would say now; counted."""
        self.asked += 1
        return [
            NbdTarget(
                address="127.0.0.1",
                port=self.port,
                export_name=self.names[-1],
                certificate_pem=self.certificate.cert_path.read_text() if self.certificate else "",
                subject=self.subject if self.certificate else "",
            )
        ]

    def _spawn(self, run: object, *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _peer = self._listener.accept()
                with self._lock:
                    self.accepted += 1
                    self._sockets.append(sock)
                    plan = self.plans.popleft() if self.plans else Plan()
                    full = self.open >= CONNECTIONS_MAX
                    self.open += 1
                    self.open_max = max(self.open_max, self.open)
                self._spawn(self._serve, sock, Plan(close_at="accept") if full else plan)

    def _serve(self, sock: socket.socket, plan: Plan) -> None:
        link = [sock]
        try:
            if self._negotiate(link, plan):
                _Session(self, link[0], plan).run()
        except (OSError, EOFError):
            pass  # the client went away, or we were told to end
        finally:
            with self._lock:
                self.open -= 1
                self._lock.notify_all()
            _end(link[0])

    def _negotiate(self, link: list[socket.socket], plan: Plan) -> bool:
        """Up to the answer to EXPORT_NAME; False: closed instead."""
        sock = link[0]
        if plan.close_at == "accept":
            return False
        if plan.greeting is not None:
            sock.sendall(plan.greeting)
            return False
        sock.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 1))
        if plan.close_at == "greeting":
            return False
        assert struct.unpack(">I", _exactly(sock, 4))[0] == 1
        secure = False
        while True:
            magic, option, length = struct.unpack(">8sII", _exactly(sock, 16))
            assert magic == b"IHAVEOPT"
            data = _exactly(sock, length)
            with self._lock:
                self.options.append(option)
            if plan.close_at == "options":
                return False
            if option == OPT_STARTTLS and self.certificate and not secure:
                _reply(sock, option, 1)
                sock = link[0] = self._wrap(sock, self.certificate)
                secure = True
            elif option == OPT_EXPORT_NAME:
                wanted = self.names[-1].encode()
                if plan.close_at == "name" or data != wanted or bool(self.certificate) != secure:
                    return False
                size = len(self.content) if plan.size_bytes is None else plan.size_bytes
                sock.sendall(struct.pack(">QH", size, 0b11) + plan.padding)
                return True
            elif option == OPT_ABORT:
                _reply(sock, option, 1)
                return False
            else:
                _reply(sock, option, ERR_POLICY if option == OPT_LIST else ERR_UNSUP)

    def _wrap(self, sock: socket.socket, certificate: Certificate) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.cert_path, certificate.key_path)
        wrapped = context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
        with self._lock:
            self._sockets.append(wrapped)
        return wrapped


class _Session:
    """The transmission phase of one connection: reads requests as they come, answers when ``hold`` lets it."""

    def __init__(self, server: ScriptedNbd, sock: socket.socket, plan: Plan) -> None:
        self._server = server
        self._sock = sock
        self._plan = plan
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._answered = 0

    def run(self) -> None:
        while True:
            kind, cookie, offset, length = self._request()
            if kind == 2:
                self._goodbye()
                return
            server = self._server
            with server._lock:
                server.reads.append((offset, length))
            self._waiting.append((cookie, offset, length))
            server.waiting_max = max(server.waiting_max, len(self._waiting))
            left = server.hold if server.due is None else min(server.hold, server.due - server._answered)
            if len(self._waiting) >= left:
                while self._waiting:
                    self._answer(self._waiting.pop() if server.backwards else self._waiting.popleft())

    def _request(self) -> tuple[int, int, int, int]:
        magic, _flags, kind, cookie, offset, length = struct.unpack(">IHHQQI", _exactly(self._sock, 28))
        assert magic == 0x25609513
        return kind, cookie, offset, length

    def _answer(self, request: tuple[int, int, int]) -> None:
        cookie, offset, length = request
        plan, server = self._plan, self._server
        if plan.silent_after is not None and self._answered >= plan.silent_after:
            return
        data = server.content[offset : offset + length]
        if plan.drop_after is not None and self._answered >= plan.drop_after:
            if plan.part_of_answer:
                self._sock.sendall(struct.pack(">IIQ", 0x67446698, 0, cookie) + data[: length // 2])
            self._drop()
        errors = server.errors.get(offset)
        number = errors.popleft() if errors else 0 if len(data) == length else 22
        self._sock.sendall(struct.pack(">IIQ", 0x67446698, number, cookie) + (b"" if number else data))
        self._answered += 1
        server._answered += 1

    def _drop(self) -> None:
        """Close our side; not with a reset, which would take along what the client has not read yet."""
        socket.socket.shutdown(self._sock, socket.SHUT_WR)
        while self._sock.recv(65536):
            pass
        raise EOFError("dropping as told")

    def _goodbye(self) -> None:
        server = self._server
        with contextlib.suppress(OSError):
            clean = self._sock.recv(1) == b""
            with server._lock:
                server.goodbyes += 1
                server.tls_goodbyes += clean and isinstance(self._sock, ssl.SSLSocket)


def _reply(sock: socket.socket, option: int, kind: int) -> None:
    sock.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, 0))


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise EOFError("the client closed")
        data += more
    return bytes(data)


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()
