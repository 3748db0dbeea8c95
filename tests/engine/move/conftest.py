"""Two pools, and how to move the VM of the first one."""

from __future__ import annotations

from typing import Any

import pytest

from xobackup.engine.dr.spec import Readiness
from xobackup.engine.job import PoolTarget
from xobackup.engine.move.move import move
from xobackup.engine.move.request import Moved, MoveRequest
from xotest.two_pools import TwoPools


class Mover:
    """Moves, and sees what runs where."""

    def __init__(self, two: TwoPools) -> None:
        self.two = two
        self.vm_uuid = two.lab.vm_uuid
        self.vm = two.lab.vm

    def request(self, **more: Any) -> MoveRequest:
        usual: dict[str, Any] = {
            "name": "move-1", "vm_uuid": self.vm_uuid, "source": PoolTarget(name="lab", address=self.two.lab.address),
            "target": self.two.sr_target(), "ready": Readiness(tools=False),
        }  # fmt: skip
        return MoveRequest(**{**usual, **more})

    def __call__(self, **more: Any) -> Moved:
        return move(self.two.lab.world(), self.request(**more))

    @property
    def here(self) -> str:
        return str(self.two.lab.pool.model.get("VM", self.vm)["power_state"])

    def there(self) -> list[dict[str, Any]]:
        """VMs of the other pool that run."""
        found = self.two.other.model.where("VM", is_control_domain=False, power_state="Running")
        return [record for _, record in found]

    def images(self) -> set[str]:
        lab = self.two.lab
        return {lab.pool.disk_sha256(ref) for ref in lab.pool.vdis_of(self.vm)}

    def images_there(self) -> set[str]:
        (vm,) = self.there()
        ref = self.two.other.model.by_uuid("VM", vm["uuid"])
        return {self.two.other.disk_sha256(disk) for disk in self.two.other.vdis_of(ref)}


@pytest.fixture
def mover(two: TwoPools) -> Mover:
    return Mover(two)
