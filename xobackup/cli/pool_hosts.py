"""Connections to the hosts of this machine's pools, made for workers of other sites: to nothing else.

A host is one by the pool's own list, which is asked with this machine's credentials; TLS is checked by the rules that
this machine's configuration has for the pool.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.xapi.address import PoolAddress

ASKED_S = 60.0
"""How old the list of a pool's hosts may be before one that is not in it is refused."""
CONNECT_S = 20.0


class PoolHosts:
    """See the module's head; thread-safe."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._guard = threading.Lock()
        self._known: dict[str, tuple[float, frozenset[str]]] = {}

    def connect(self, place: str, host: str, port: int) -> socket.socket:
        """For :class:`xobackup.relay.streams.Streams`. ``place``: ``pool:NAME``."""
        from xobackup.cli.jobs import pool_address
        from xobackup.config.errors import ConfigError
        from xobackup.relay.errors import Refused
        from xobackup.workers.placing import POOL
        from xobackup.xapi.errors import XapiError
        from xobackup.xapi.tls import context_for

        name = place.removeprefix(POOL)
        try:
            address = pool_address(self._configuration, name)
            endpoint = address.endpoint()
            known = port == endpoint.port and (host == endpoint.host or host in self._hosts(name, address))
            if not known:
                raise Refused(f"{host}:{port} is no host of pool {name}")
            plain = socket.create_connection((host, port), timeout=CONNECT_S)
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if not endpoint.secure:
                    return plain
                return context_for(address.tls).wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False)
            except BaseException:
                plain.close()
                raise
        except (ConfigError, XapiError) as error:
            raise Refused(f"pool {name}: {error}") from error

    def _hosts(self, name: str, address: PoolAddress) -> frozenset[str]:
        from xobackup.clock import SystemClock
        from xobackup.xapi.session import Session

        clock = SystemClock()
        with self._guard:
            asked_s, known = self._known.get(name, (0.0, frozenset()))
            if known and clock.monotonic_s() - asked_s < ASKED_S:
                return known
            with contextlib.closing(Session.connect(address, clock=clock)) as session:
                found = frozenset(str(one.get("address", "")) for one in session.records("host").values()) - {""}
            self._known[name] = (clock.monotonic_s(), found)
            return found
