"""A pool as its backup describes it: XAPI's records of the pool and of its master."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xobackup.xapi.errors import ProtocolError

if TYPE_CHECKING:
    from xobackup.xapi.session import Session

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecords:
    """The pool now."""

    pool: Record
    master: Record
    hosts: tuple[Record, ...]

    @property
    def uuid(self) -> str:
        return str(self.pool.get("uuid", ""))

    @property
    def name(self) -> str:
        """A pool of one host often has none: then its master's."""
        return str(self.pool.get("name_label") or self.master.get("name_label") or self.uuid)

    @property
    def started(self) -> str:
        """When the master's toolstack began; ``""`` when it does not say."""
        return str((self.master.get("other_config") or {}).get("agent_start_time", ""))

    @property
    def version(self) -> str:
        return str((self.master.get("software_version") or {}).get("product_version", ""))


def pool_records(session: Session) -> PoolRecords:
    """Ask the pool."""
    pools = session.records("pool")
    if len(pools) != 1:
        raise ProtocolError("pool.get_all_records", f"expected one pool, found {len(pools)}")
    (pool,) = pools.values()
    hosts = session.records("host")
    master = hosts.get(str(pool.get("master")))
    if master is None:
        raise ProtocolError("host.get_all_records", f"the pool's master {pool.get('master')} is not among its hosts")
    return PoolRecords(pool=pool, master=master, hosts=tuple(hosts.values()))
