"""A small client of its own for tests of the simulated pool: no code shared with the real one."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from types import TracebackType

    from xobackup.simpool import SimPool

WAIT_MAX_S = 20.0


class RpcFailure(Exception):
    """A failed call: code and parameters."""

    def __init__(self, code: str, params: list[str]) -> None:
        self.code = code
        self.params = params
        super().__init__(code, params)


class SimClient:
    """Calls with one session over one kept connection; transfers over connections of their own."""

    def __init__(self, pool: SimPool) -> None:
        self.pool = pool
        self._rpc = self.connect()
        try:
            self.session = str(self.raw_call("session.login_with_password", pool.username, pool.password))
        except BaseException:
            self._rpc.close()
            raise

    def connect(self) -> http.client.HTTPConnection:
        server = self.pool.server
        if self.pool.toolstack.scheme == "http":
            return http.client.HTTPConnection(server.address, server.port, timeout=WAIT_MAX_S)
        context = ssl.create_default_context(cafile=self.pool.ca_pem_path)
        return http.client.HTTPSConnection(server.address, server.port, context=context, timeout=WAIT_MAX_S)

    def raw_call(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": list(params), "id": 1})
        self._rpc.request("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
        answer = json.loads(self._rpc.getresponse().read())
        if "error" in answer:
            raise RpcFailure(answer["error"]["message"], answer["error"]["data"])
        return answer["result"]

    def call(self, method: str, *params: Any) -> Any:
        return self.raw_call(method, self.session, *params)

    def wait(self, task: str) -> dict[str, Any]:
        """The record of a task once it has ended."""
        deadline = time.monotonic() + WAIT_MAX_S
        while (record := self.call("task.get_record", task))["status"] in ("pending", "cancelling"):
            assert time.monotonic() < deadline, f"task {record['name_label']} does not end"
        return dict(record)

    def run(self, method: str, *params: Any) -> str:
        """An asynchronous call to its end; its result as the task gives it."""
        record = self.wait(self.call(f"Async.{method}", *params))
        if record["status"] != "success":
            raise RpcFailure(record["error_info"][0], record["error_info"][1:])
        return str(record["result"]).removeprefix("<value>").removesuffix("</value>")

    def get(self, path: str, headers: dict[str, str] | None = None, **query: str) -> Answer:
        """A GET with the session; the body read to the end of the connection."""
        return self.exchange("GET", path, {"session_id": self.session, **query}, headers or {})

    def put(self, path: str, body: bytes, headers: dict[str, str] | None = None, **query: str) -> Answer:
        given = {"Content-Length": str(len(body)), **(headers or {})}
        return self.exchange("PUT", path, {"session_id": self.session, **query}, given, body)

    def exchange(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes = b""
    ) -> Answer:
        """One request on a connection of its own, byte for byte as given; everything the server says."""
        target = f"{path}?{urlencode(query)}" if query else path
        lines = [f"{method} {target} HTTP/1.1", "Host: pool", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        return self.send_raw("\r\n".join(lines).encode() + body)

    def send_raw(self, data: bytes) -> Answer:
        with self.open_socket() as sock:
            sock.sendall(data)
            found = bytearray()
            reset = False
            try:
                while piece := sock.recv(1 << 20):
                    found += piece
            except ConnectionError:
                reset = True
        head, _, body = bytes(found).partition(b"\r\n\r\n")
        return Answer(head.decode("latin-1"), body, reset=reset)

    def open_socket(self) -> socket.socket:
        server = self.pool.server
        sock = socket.create_connection((server.address, server.port), timeout=WAIT_MAX_S)
        if self.pool.toolstack.scheme == "http":
            return sock
        context = ssl.create_default_context(cafile=self.pool.ca_pem_path)
        return context.wrap_socket(sock, server_hostname="localhost")

    def close(self) -> None:
        self._rpc.close()

    def __enter__(self) -> SimClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Answer:
    """Status line, header lines and body as they came over the wire."""

    def __init__(self, head: str, body: bytes, *, reset: bool) -> None:
        self.lines = head.split("\r\n")
        self.status_line = self.lines[0]
        self.body = body
        self.reset = reset

    @property
    def status(self) -> int:
        return int(self.status_line.split()[1])

    def header(self, name: str) -> str | None:
        for line in self.lines[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None
