"""Jobs that copy from remote to remote: tables of ``jobs`` that say ``mode = "mirror"``."""

from __future__ import annotations

import uuid as uuids
from typing import Annotated, Literal

from pydantic import Field, model_validator

from xobackup.config.periods import Period, seconds
from xobackup.config.retention import KeepSection
from xobackup.config.section import Section

Text = Annotated[str, Field(min_length=1)]


class MirrorSection(Section):
    """What ``source`` has, kept on ``remotes`` too. No pool takes part."""

    mode: Literal["mirror"]
    id: uuids.UUID | None = None
    schedule_id: uuids.UUID | None = None
    """Both only name it: restore points keep the ids of the jobs that made them."""
    source: str
    remotes: Annotated[tuple[str, ...], Field(min_length=1)]
    vms: tuple[Text, ...] = ()
    """Uuids, or patterns of names; all when absent."""
    tags: tuple[Text, ...] = ()
    """Only VMs that had one of these tags when they were backed up."""
    job_ids: tuple[uuids.UUID, ...] = ()
    """Only restore points of these jobs."""
    schedule_ids: tuple[uuids.UUID, ...] = ()
    days: Annotated[float, Field(gt=0)] | None = None
    """Nothing older is copied."""
    retention: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Restore points kept at each remote, per VM, schedule and kind; absent: nothing is deleted there."""
    keep: KeepSection | None = None
    """Besides them, for the long term."""
    verify: bool = False
    """Read what was copied from the remote again."""
    rpo: Period | None = None
    """How old the newest good run may be before it is told."""

    @model_validator(mode="after")
    def _consistent(self) -> MirrorSection:
        if self.source in self.remotes:
            raise ValueError(f"source: {self.source!r} is one of its remotes")
        if len(set(self.remotes)) != len(self.remotes):
            raise ValueError("remotes: one of them is named twice")
        if self.keep is not None and self.retention is None:
            raise ValueError("keep: only with retention; without it nothing is deleted")
        return self

    @property
    def rpo_s(self) -> float | None:
        return None if self.rpo is None else seconds(self.rpo)
