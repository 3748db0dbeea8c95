"""Everything that looks at remotes and pools for the page, each at its own pace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.cli.serving.backups import ServiceBackups
from xobackup.cli.serving.looks import Looks
from xobackup.cli.serving.samples import Sampler
from xobackup.cli.serving.survey import Surveyor
from xobackup.cli.serving.workers import WorkersLook
from xobackup.clock import SystemClock

if TYPE_CHECKING:
    from xobackup.cli.serving.duties import Duty
    from xobackup.cli.serving.works import Works


class Eyes:
    """``duties``: contexts in which they look."""

    def __init__(self, works: Works) -> None:
        self.sampler, self.surveyor = Sampler(works), Surveyor(works)
        self.workers = WorkersLook(works)
        self.backups = ServiceBackups(works, self.surveyor, Looks(SystemClock()))

    @property
    def duties(self) -> tuple[Duty, ...]:
        return self.sampler.duty, self.surveyor.duty, self.workers.duty
