"""A worker's relay by its configuration, and the way through the relays of others."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remotes.contract import Remote
    from xobackup.config.model import Configuration
    from xobackup.engine.cancel import CancelToken
    from xobackup.engine.journal import Sink
    from xobackup.engine.mirror.job import MirrorJob
    from xobackup.engine.world import World
    from xobackup.relay.credentials import Credentials
    from xobackup.relay.lines import RelayAt
    from xobackup.relay.remote import RelayRemote
    from xobackup.relay.server import RelayServer
    from xobackup.workers.board import Board
    from xobackup.workers.mirror_task import MirrorTask
    from xobackup.xapi.tls import Dial


class Relaying:
    """What a worker has of it: its credentials, and its relay if the configuration asks for one."""

    def __init__(self, board: Board, own: Credentials, site: str, server: RelayServer | None, address: str) -> None:
        self.board = board
        self.own = own
        self.site = site
        self.address = address
        self._server = server

    @property
    def busy(self) -> int:
        """Readers of other workers."""
        return 0 if self._server is None else self._server.busy

    def lead(self, place: str, site: str, cancel: CancelToken) -> RelayRemote:
        """The remote ``place`` as it is read through the relays of ``site``. Who is cancelled waits for none."""
        from xobackup.relay.lines import Lines
        from xobackup.relay.remote import RelayRemote
        from xobackup.workers.peers import relays_of

        def find() -> list[RelayAt]:
            return relays_of(self.board, site)

        lines = Lines(find, own=self.own, place=place, stopped=lambda: cancel.cancelled)
        return RelayRemote(lines, url=f"relay:{site}/{place}")

    def dialer(self, place: str, site: str, cancel: CancelToken) -> Dial:
        """To the hosts of the pool ``place``, through the relays of ``site``."""
        from xobackup.relay.dialing import Dialer
        from xobackup.workers.peers import relays_of

        def find() -> list[RelayAt]:
            return relays_of(self.board, site)

        return Dialer(find, own=self.own, place=place, stopped=lambda: cancel.cancelled).dial


@contextmanager
def relaying(
    configuration: Configuration, board: Board, worker: str, site: str, log: Callable[[str], None]
) -> Iterator[Relaying]:
    """The worker can be told apart by the others, and leads them where the configuration says."""
    from xobackup.relay.credentials import make_credentials
    from xobackup.workers.peers import announce

    own = make_credentials(worker)
    server = _server(configuration, board, own, site, log)
    address = "" if server is None else _address(configuration, server)
    try:
        announce(board, worker, address=address, certificate=own.certificate)
        if server is not None:
            server.start()
            log(f"leads workers of other sites to what it reaches, at {address}")
        yield Relaying(board, own, site, server, address)
    finally:
        if server is not None:
            server.close()


def _server(
    configuration: Configuration, board: Board, own: Credentials, site: str, log: Callable[[str], None]
) -> RelayServer | None:
    from xobackup.cli.engine_store import reach_of
    from xobackup.cli.jobs import remote_target
    from xobackup.cli.pool_hosts import PoolHosts
    from xobackup.config.errors import ConfigError
    from xobackup.engine.storage import open_remote_of
    from xobackup.relay.addresses import split_address
    from xobackup.relay.server import RelayServer
    from xobackup.workers.peers import BoardOfRelay
    from xobackup.workers.placing import POOL

    section = configuration.engine.relay
    if section is None:
        return None
    if not site:
        raise ConfigError(["engine.relay: a worker that leads others has to say of which site it is: --site"])
    reach = reach_of(configuration, site)
    gives = [name for name in reach["remotes"] if section.remotes is None or name in section.remotes]
    gives += [f"{POOL}{name}" for name in reach["pools"] if section.pools is None or name in section.pools]

    def open_place(name: str) -> Remote:
        return open_remote_of(remote_target(configuration, name))

    try:
        return RelayServer(
            split_address(section.listen),
            own=own,
            board=BoardOfRelay(board, site=site, gives=gives),
            open_place=open_place,
            connect=PoolHosts(configuration).connect,
            log=log,
        )
    except OSError as error:
        log(f"no relay, as nobody can listen at {section.listen}: {error.strerror or error}")
        return None


def _address(configuration: Configuration, server: RelayServer) -> str:
    """Where others find it. A port that is 0 is the one that was found."""
    from xobackup.relay.addresses import joined, split_address

    section = configuration.engine.relay
    assert section is not None
    host, port = split_address(section.address or joined(socket.gethostname(), 0))
    return joined(host, port or server.port)


def mirror_task_of(
    configuration: Configuration, world: Callable[[Sink, CancelToken], World], way: Relaying
) -> MirrorTask:
    """How parts of mirrors are done by this configuration."""
    from xobackup.cli.engine_store import fingerprint_of
    from xobackup.cli.mirror_jobs import mirror_job
    from xobackup.config.errors import ConfigError
    from xobackup.engine.errors import UsageError
    from xobackup.workers.errors import WorkersError
    from xobackup.workers.mirror_task import MirrorTask

    def job(name: str) -> MirrorJob:
        if name not in configuration.mirror_jobs:
            known = ", ".join(sorted(configuration.mirror_jobs)) or "none"
            raise WorkersError(f"there is no mirror {name!r} in the worker's configuration (known: {known})")
        try:
            return mirror_job(configuration, name)
        except (ConfigError, UsageError) as error:
            raise WorkersError(str(error), hint=error.hint or "") from error

    return MirrorTask(job_of=job, fingerprint=fingerprint_of(configuration), world_of=world, led=way.lead)
