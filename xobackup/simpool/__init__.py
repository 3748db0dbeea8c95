"""A simulated XAPI pool served over real HTTPS, for the demo, tests and drills.

``wire protocol (http/) -> dispatch -> messages/ -> database, disks -> storage/ (real VHD trees)``. Arrows point one
way; nothing here knows the client or the engine.
"""

from __future__ import annotations

from xobackup.simpool.failures import Failure
from xobackup.simpool.options import Options
from xobackup.simpool.pool import NotAttached, SimPool
from xobackup.simpool.spec import DiskSpec, HostSpec, PoolSpec, SrSpec, VmSpec

__all__ = ["DiskSpec", "Failure", "HostSpec", "NotAttached", "Options", "PoolSpec", "SimPool", "SrSpec", "VmSpec"]
