"""A job that cannot work is refused when it is made, naming what is wrong."""

import pytest

from xobackup.engine.errors import UsageError
from xobackup.engine.job import RemoteTarget, Settings, job_id_of
from xotest.views import a_job


def test_a_jobs_id_derives_from_its_name() -> None:
    assert a_job().id == a_job().id == job_id_of("nightly") != a_job(name="weekly").id
    assert a_job().schedule_id != a_job().id


def test_an_id_given_is_normalised_and_must_be_a_uuid() -> None:
    assert a_job(id="BBBBBBBB-0000-4000-8000-000000000001").id == "bbbbbbbb-0000-4000-8000-000000000001"
    with pytest.raises(UsageError, match="job id: expected a uuid, found 'x'"):
        a_job(id="x")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": " "}, "has no name"),
        ({"pools": ()}, "has no pool"),
        ({"remotes": ()}, "has no remote"),
        ({"remotes": (RemoteTarget(name="a", url="x"), RemoteTarget(name="a", url="y"))}, "'a' is named twice"),
        ({"settings": Settings(retention=0)}, "retention must be at least 1, got 0"),
        ({"settings": Settings(vms_max=0)}, "vms_max must be at least 1"),
        ({"settings": Settings(buffers_per_disk=1)}, "buffers_per_disk must be at least 2"),
        ({"settings": Settings(snapshot_name="{host}")}, "may only use"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        a_job(**fields)


def test_a_remotes_url_is_not_printed() -> None:
    assert "secret" not in repr(RemoteTarget(name="s3", url="s3://key:secret@host/bucket"))
