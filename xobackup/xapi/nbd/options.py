"""Every bound of reading by NBD, by name, with the reason for its value.

What a line carries needs ``rate x round trip`` bytes in flight: 6 MB for 1 Gbit/s at 50 ms. In flight are at most
``connections x depth`` requests, and never more than the pool of buffers given to the reader holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from vhd.block import BLOCK_BYTES

CONNECTIONS = 4
"""TCP's window (some 3 MB with Linux' defaults) bounds what one connection has on its way; a XAPI host takes 16 for
all disks, and attaches the disk once for each."""
DEPTH = 8
"""Requests in flight per connection."""
REQUEST_BYTES = BLOCK_BYTES
"""Longest read: what XO asks for, and what every server takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NbdOptions:
    """Seconds, unless a name says otherwise."""

    connections: int = CONNECTIONS
    depth: int = DEPTH
    request_bytes: int = REQUEST_BYTES
    plain_allowed: bool = False
    """Go on without TLS where a server that has a certificate offers none (only networks with insecure_nbd)."""
    allocation: bool = True
    """Ask for structured replies and where holes are; XAPI's servers have neither and say so."""

    connect_s: float = 10.0
    """TCP connect, and again for the TLS handshake."""
    attach_s: float = 300.0
    """From the export's name to its size: the host attaches the disk meanwhile."""
    idle_s: float = 60.0
    """Silence while an answer is due."""
    request_s: float = 300.0
    """From a request to the end of its answer, others' answers before it included."""
    goodbye_s: float = 1.0
    """How long the server gets to answer our TLS goodbye."""

    reconnect_tries: int = 5
    """Attempts in a row to get a connection that answers something, before it is given up."""
    reconnect_pause_s: float = 2.0
    """After a failure; a XAPI host needs some seconds to detach the disk."""
    read_tries: int = 3
    """How often a read is tried when the server answers with an error that may pass."""
    block_tries: int = 6
    """How often a block is asked for in all, lost connections included."""

    def __post_init__(self) -> None:
        assert self.connections >= 1 and self.depth >= 1
        assert 512 <= self.request_bytes <= BLOCK_BYTES and self.request_bytes % 512 == 0

    @property
    def buffers_wanted(self) -> int:
        """A pool of that many buffers never holds the reader back: all in flight, and some with the sinks."""
        return self.connections * self.depth + 4
