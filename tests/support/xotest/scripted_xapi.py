"""A XAPI host that does what a test tells it to: real HTTPS, a few working calls, and any misbehaviour on demand.

Not a pool (that is ``xobackup.simpool``): it knows sessions and tasks, and for everything else what was queued.
Answers queued for a method are used up one by one, then the built-in behaviour is back.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from xobackup.clock import SystemClock
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.session import Session
from xobackup.xapi.timeouts import Timeouts
from xobackup.xapi.tls import Fingerprint, TlsPolicy, Unverified
from xotest.certificates import Certificate, make_certificate

PASSWORD = "correct horse"
QUICK = Timeouts(
    connect_s=2.0,
    call_s=5.0,
    event_s=1.0,
    poll_s=0.05,
    task_s=5.0,
    cancel_s=0.5,
    first_byte_s=2.0,
    idle_s=2.0,
    drain_s=1.0,
    task_end_s=2.0,
    verdict_s=0.3,
    boot_s=0.3,
    boot_pause_s=0.02,
    busy_tries=4,
    busy_pause_s=0.01,
    reconnect_tries=3,
    reconnect_pause_s=0.01,
)


class Fail(Exception):
    """Answer with a XAPI failure."""

    def __init__(self, code: str, *params: str, v1: bool = False) -> None:
        super().__init__(code)
        self.code, self.params, self.v1 = code, list(params), v1


@dataclass(frozen=True)
class Raw:
    """Answer with these bytes, then close."""

    data: bytes


@dataclass(frozen=True)
class Drop:
    """Close without an answer (with a reset)."""


@dataclass(frozen=True)
class Silence:
    """No answer."""

    seconds: float = 3.0


@dataclass
class Request:
    """One request as it came in; handlers of transfers write to it."""

    host: ScriptedXapi
    sock: socket.socket
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    rest: bytes = b""

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", "0"))

    @property
    def task(self) -> str | None:
        return self.query.get("task_id")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ok(self) -> None:
        """What a handler sends before it does anything."""
        task = f"task-id:{self.task}\r\n" if self.task else ""
        self.send(f"HTTP/1.1 200 OK\r\nConnection: close\r\n{task}content-type:application/vhd\r\n\r\n".encode())

    def inner_500(self, text: str = "An unexpected error occurred") -> None:
        page = f"<html><body><h1>HTTP 500 internal server error</h1>{text}</body></html>"
        self.send(f"HTTP/1.1 500 Internal Error\r\ncontent-type: text/html\r\n\r\n{page}".encode())

    def body(self, count: int | None = None) -> bytes:
        """Read the request's body, or ``count`` bytes of it."""
        wanted = self.length if count is None else count
        data = bytearray(self.rest[:wanted])
        while len(data) < wanted and (more := self.sock.recv(min(65536, wanted - len(data)))):
            data += more
        return bytes(data)

    def reset(self) -> None:
        """Close with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Handler = Callable[[Request], None]


@dataclass
class ScriptedXapi:
    """Start it as a context manager."""

    directory: Path
    tls: bool = True
    expired: bool = False
    name: str = "host"
    certified_address: str = "127.0.0.1"
    calls: list[tuple[str, list[Any]]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    methods: dict[str, Callable[..., Any]] = field(default_factory=dict)
    transfers: list[Handler] = field(default_factory=list)
    """Handlers for GET and PUT, used one by one; the last one stays."""
    certificate: Certificate = field(init=False)

    def __enter__(self) -> ScriptedXapi:
        self.certificate = make_certificate(
            self.directory, name=self.name, expired=self.expired, address=self.certified_address
        )
        self._queued: dict[str, deque[Any]] = defaultdict(deque)
        self.sessions: set[str] = set()
        self.tasks: dict[str, dict[str, Any]] = {}
        self._versions: dict[str, int] = {}
        self._serial = 0
        self.changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate.cert_path, self.certificate.key_path)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        with self.changed:
            self.changed.notify_all()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes accept
        for sock in list(self._open):
            _shut(sock)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def address(
        self, *, timeouts: Timeouts = QUICK, password: str = PASSWORD, tls: TlsPolicy | None = None
    ) -> PoolAddress:
        policy = tls or (Fingerprint(self.certificate.sha256) if self.tls else Unverified())
        return PoolAddress(url=self.url, username="root", password=password, tls=policy, timeouts=timeouts)

    def connect(self, *, timeouts: Timeouts = QUICK) -> Session:
        return Session.connect(self.address(timeouts=timeouts), clock=SystemClock())

    def queue(self, method: str, *answers: Any) -> None:
        """Answers for the next calls of ``method``: a value, Fail, Raw, Drop or Silence."""
        self._queued[method].extend(answers)

    def called(self, method: str) -> list[list[Any]]:
        return [params for name, params in self.calls if name == method]

    def new_task(self, **fields: Any) -> str:
        with self.changed:
            self._serial += 1
            ref = f"OpaqueRef:task-{self._serial}"
            self.tasks[ref] = {"status": "pending", "progress": 0.0, "result": "", "error_info": []}
        self.set_task(ref, **fields)
        return ref

    def set_task(self, ref: str | None, **fields: Any) -> None:
        """Change a task and tell those who wait for it."""
        with self.changed:
            if ref in self.tasks:
                self.tasks[ref] = {**self.tasks[ref], **fields}
                self._serial += 1
                self._versions[ref] = self._serial
            self.changed.notify_all()

    def end_task(self, ref: str | None, *, result: str = "", error: list[str] | None = None) -> None:
        if error:
            self.set_task(ref, status="failure", error_info=error, progress=1.0)
        else:
            self.set_task(ref, status="success", result=result, progress=1.0)

    def drop_task(self, ref: str | None) -> None:
        with self.changed:
            self.tasks.pop(ref or "", None)
            self.changed.notify_all()

    # --- serving

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            plain, _peer = self._listener.accept()
            self._spawn(self._serve, plain)

    def _serve(self, plain: socket.socket) -> None:
        sock = plain
        self._open.add(plain)
        try:
            plain.settimeout(20)
            if self.tls:
                sock = self._context.wrap_socket(plain, server_side=True)
                self._open.add(sock)
            while not self._stopping.is_set() and (request := self._read(sock)) is not None:
                self._answer(request)
        except (OSError, ValueError):
            pass  # the client went away, or we were told to
        finally:
            _shut(sock)
            sock.close()

    def _answer(self, request: Request) -> None:
        self.requests.append(request)
        if request.method == "POST":
            self._rpc(request)
            return
        handler = self.transfers.pop(0) if len(self.transfers) > 1 else self.transfers[0]
        handler(request)
        raise OSError("a handler's connection ends")

    def _read(self, sock: socket.socket) -> Request | None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            more = sock.recv(65536)
            if not more:
                return None
            raw += more
            if raw.startswith(b"\x16\x03"):  # a TLS greeting to a plain server
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return None
        head, _, rest = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        method, target, _version = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return Request(self, sock, method, parts.path, query, headers, rest)

    def _rpc(self, request: Request) -> None:
        call = json.loads(request.body())
        name, params = call["method"], call.get("params", [])
        self.calls.append((name, params))
        queued = self._queued[name]
        answer = queued.popleft() if queued else None
        if isinstance(answer, Raw):
            request.send(answer.data)
            raise OSError("closing as told")
        if isinstance(answer, Drop):
            request.reset()
            raise OSError("closing as told")
        if isinstance(answer, Silence):
            self._stopping.wait(answer.seconds)
            raise OSError("closing as told")
        body: dict[str, Any] = {"jsonrpc": "2.0"}
        try:
            if isinstance(answer, Fail):
                raise answer
            body["result"] = answer if answer is not None else self._built_in(name, params)
        except Fail as fail:
            shape = [fail.code, *fail.params] if fail.v1 else {"code": 1, "message": fail.code, "data": fail.params}
            body = {"result": None, "error": shape} if fail.v1 else {**body, "error": shape}
        body["id"] = call["id"]
        text = json.dumps(body).encode()
        request.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: keep-alive\r\n"
            + f"content-length: {len(text)}\r\n\r\n".encode()
            + text
        )

    def _built_in(self, name: str, params: list[Any]) -> Any:
        if name == "session.login_with_password":
            if params[1] != PASSWORD:
                raise Fail("SESSION_AUTHENTICATION_FAILED", params[0], "Authentication failure")
            self._serial += 1
            self.sessions.add(f"OpaqueRef:session-{self._serial}")
            return f"OpaqueRef:session-{self._serial}"
        if name == "system.listMethods":
            return sorted(self.methods)
        if params[0] not in self.sessions:
            raise Fail("SESSION_INVALID", params[0])
        if name == "session.logout":
            self.sessions.discard(params[0])
            return ""
        if name in self.methods:
            return self.methods[name](*params[1:])
        if name.startswith("Async."):
            return self.new_task()
        return self._task_call(name, params[1:])

    def _task_call(self, name: str, params: list[Any]) -> Any:
        if name == "task.create":
            return self.new_task()
        if name == "event.from":
            return self._events(*params)
        if not name.startswith("task."):
            raise Fail("MESSAGE_METHOD_UNKNOWN", name)
        if params[0] not in self.tasks:
            raise Fail("HANDLE_INVALID", "task", params[0])
        if name == "task.get_record":
            return self.tasks[params[0]]
        if name == "task.destroy":
            self.drop_task(params[0])
        elif name == "task.set_status":
            self.set_task(params[0], status=params[1])
        elif name == "task.cancel":
            self.set_task(params[0], status="cancelled", error_info=["TASK_CANCELLED", params[0]])
        return ""

    def _events(self, classes: list[str], token: str, timeout_s: float) -> Any:
        wanted = [name.partition("/")[2] for name in classes]
        since = int(token or 0)

        def news() -> list[dict[str, Any]]:
            return [
                {"class": "task", "operation": "mod", "ref": ref, "snapshot": self.tasks[ref]}
                for ref in wanted
                if ref in self.tasks and self._versions[ref] > since
            ]

        with self.changed:
            self.changed.wait_for(lambda: bool(news()) or self._stopping.is_set(), timeout_s)
            return {"events": news(), "token": str(self._serial), "valid_ref_counts": {"task": len(self.tasks)}}


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
