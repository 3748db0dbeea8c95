"""What one host serves: RPC, transfers, NBD. Only the master answers calls; a member names it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xobackup.simpool.dispatch import canonical
from xobackup.simpool.failures import Failure
from xobackup.simpool.http.export_raw_vdi import ExportRawVdi
from xobackup.simpool.http.export_vm import ExportMetadata, ExportVm
from xobackup.simpool.http.import_raw_vdi import ImportRawVdi
from xobackup.simpool.http.import_vm import ImportVm
from xobackup.simpool.http.jsonrpc import JsonRpc
from xobackup.simpool.http.pages import front_page
from xobackup.simpool.http.server import HttpServer
from xobackup.simpool.http.xmldbdump import DumpDatabase, RestoreDatabase
from xobackup.simpool.http.xmlrpc import XmlRpc
from xobackup.simpool.nbd.server import NbdServer

if TYPE_CHECKING:
    import ssl

    from xobackup.simpool.dispatch import Dispatcher, Method
    from xobackup.simpool.toolstack import Toolstack

OF_MEMBERS = frozenset({"system.listMethods"})
"""Calls that a member answers itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a host listens; port 0: anywhere."""

    address: str
    port: int = 0
    nbd_port: int = 0
    ipv6: str = ""
    """Where its NBD server listens too."""


class HostDispatcher:
    """The dispatcher as seen through one host."""

    def __init__(self, toolstack: Toolstack, dispatcher: Dispatcher, host: str) -> None:
        self._toolstack = toolstack
        self._dispatcher = dispatcher
        self._host = host

    def call(self, name: str, params: list[Any]) -> Any:
        """Raises ``HOST_IS_SLAVE`` with the master's address on a member."""
        toolstack = self._toolstack
        if toolstack.master != self._host and canonical(name) not in OF_MEMBERS:
            address = toolstack.database.copy("host", toolstack.master)["address"]
            at_s = toolstack.clock.now_s()
            toolstack.journal.note(canonical(name), params, at_s=at_s, duration_s=0.0, outcome="HOST_IS_SLAVE")
            raise Failure("HOST_IS_SLAVE", address)
        return self._dispatcher.call(name, params)

    def signature(self, name: str) -> Method | None:
        return self._dispatcher.signature(name)

    def lacks_async(self, name: str) -> bool:
        return self._dispatcher.lacks_async(name)


class HostServer:
    """The listeners of one host. Their addresses stay the same when the host goes down and comes back."""

    def __init__(
        self, toolstack: Toolstack, dispatcher: Dispatcher, *, tls: ssl.SSLContext, plain: bool, where: Where
    ) -> None:
        self._toolstack = toolstack
        self._dispatcher = dispatcher
        self._tls = tls
        self._plain = plain
        self.host = ""
        self._listen(where)

    def _listen(self, where: Where) -> None:
        self.http = HttpServer(
            where.address,
            where.port,
            context=None if self._plain else self._tls,
            link=lambda: self._toolstack.faults.link("http"),
        )
        self.nbd = NbdServer(self._toolstack, where.address, where.nbd_port, self._tls, ipv6=where.ipv6)
        self.where = replace(where, port=self.http.port, nbd_port=self.nbd.port)
        self.up = True

    @property
    def address(self) -> str:
        """Host and port, as redirects and ``host.address`` name it."""
        return f"{self.where.address}:{self.where.port}"

    def start(self, host: str) -> None:
        """Serve as this host of the pool."""
        toolstack, http = self._toolstack, self.http
        self.host = host
        toolstack.nbd_ports[host] = self.where.nbd_port
        dispatcher = HostDispatcher(toolstack, self._dispatcher, host)
        http.route("POST", "/jsonrpc", JsonRpc(dispatcher, old_error_shape=toolstack.options.old_error_shape))
        http.route("POST", "/", XmlRpc(dispatcher))
        http.route("GET", "/export_raw_vdi", ExportRawVdi(toolstack, host))
        http.route("PUT", "/import_raw_vdi", ImportRawVdi(toolstack, host))
        http.route("GET", "/export", ExportVm(toolstack, host))
        http.route("PUT", "/import", ImportVm(toolstack, host, full=True))
        http.route("PUT", "/import_metadata", ImportVm(toolstack, host, full=False))
        http.route("GET", "/export_metadata", ExportMetadata(toolstack))
        http.route("GET", "/pool/xmldbdump", DumpDatabase(toolstack))
        http.route("PUT", "/pool/xmldbdump", RestoreDatabase(toolstack))
        http.route("GET", "/", front_page)
        http.start()
        self.nbd.start(host)
        self._tell(live=True)

    def go_down(self) -> None:
        """As if the power failed: connections are refused from now on."""
        if self.up:
            self._tell(live=False)
            self.close()

    def come_back(self) -> None:
        """On the same addresses as before."""
        if not self.up:
            self._listen(self.where)
            self.start(self.host)

    def drop_connections(self) -> None:
        self.http.drop_connections()
        self.nbd.drop_connections()

    def close(self) -> None:
        if self.up:
            self.up = False
            self.http.close()
            self.nbd.close()

    def _tell(self, *, live: bool) -> None:
        database = self._toolstack.database
        with database.lock:
            database.update("host_metrics", database.get("host", self.host)["metrics"], live=live)
