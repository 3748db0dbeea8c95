"""A job of any kind: translated by its kind, or refused with the reason."""

from __future__ import annotations

from collections.abc import Sequence

from xobackup.config.from_xo.metadata_jobs import translate_metadata_job
from xobackup.config.from_xo.mirror_jobs import translate_mirror_job
from xobackup.config.from_xo.naming import Names
from xobackup.config.from_xo.records import XoJob, XoSchedule
from xobackup.config.from_xo.remarks import Level, Remark, plain
from xobackup.config.from_xo.sections import Section
from xobackup.config.from_xo.targets import is_path_id
from xobackup.config.from_xo.vm_jobs import translate_vm_job
from xobackup.config.from_xo.work import Refused, Site, Work


def translate_job(
    job: XoJob, schedules: Sequence[XoSchedule], site: Site, names: Names
) -> tuple[list[Section], list[Remark]]:
    """All sections for ``job``, and all that is said about it; a job that is refused has no section."""
    work = Work(job=job, schedules=schedules, site=site, names=names)
    try:
        if job.type == "call":
            return [], [Remark(level=Level.NOTE, about=work.about, text="left out, it is no backup")]
        if not is_path_id(job.id):
            raise Refused(f"its id {plain(job.id, most=60)!r} is no uuid")
        if job.type == "backup":
            translate_vm_job(work)
        elif job.type == "metadataBackup":
            translate_metadata_job(work)
        elif job.type == "mirrorBackup":
            translate_mirror_job(work)
        else:
            raise Refused(f"it is of a kind that is not known here, {plain(job.type, most=40)!r}")
    except Refused as error:
        return [], [Remark(level=Level.REFUSED, about=work.about, text=str(error))]
    return work.sections, work.all_remarks()
