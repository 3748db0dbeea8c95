"""The application on a socket, in a thread of its own. What happens to it never touches the service."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

CONNECTIONS_MAX = 200
BACKLOG = 128
STOP_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where to listen. ``port`` 0: one that is free."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()


class WebServer:
    """Listens from the moment it is made. Raises ``OSError``: in use, not ours, no such certificate."""

    def __init__(self, app: FastAPI, place: Place) -> None:
        import uvicorn

        self._socket = _bound(place)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=bool(place.trusted_proxies),
            forwarded_allow_ips=list(place.trusted_proxies),
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=STOP_S,
            ssl_certfile=place.certificate,
            ssl_keyfile=place.key,
            ws="none",
        )
        try:
            config.load()
        except BaseException:
            self._socket.close()
            raise
        # What was made until now (modules, templates, the API's description) stays as long as the process does, and
        # a page of ten thousand VMs makes so many objects that the collector would look at all of it every time.
        gc.collect()
        gc.freeze()
        self.url = f"{'https' if place.certificate else 'http'}://{_shown(self._socket)}"
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, args=([self._socket],), name="web", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """Answer what was asked, then close."""
        self._server.should_exit = True
        self._thread.join(STOP_S + 5)
        self._socket.close()

    def _serve(self, sockets: Sequence[socket.socket]) -> None:
        self._server.run(sockets=list(sockets))


def _bound(place: Place) -> socket.socket:
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


def _shown(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
