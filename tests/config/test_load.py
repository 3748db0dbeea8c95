"""Configuration files: what is accepted, and that every refusal names the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xobackup.config.errors import ConfigError
from xobackup.config.load import configuration_path, files_of, load_configuration

GOOD = """
state_directory = "/tmp/state"
[pools.paris]
url = "10.0.0.1"
password = "secret"
[remotes.nas]
url = "file:///mnt/nas"
[jobs.nightly]
pool = "paris"
remotes = ["nas"]
vms.include = [{ tag = "prod" }, { name = "web*", power_state = "Running" }]
vms.exclude = [{ name = "*-scratch" }]
disks.exclude = [{ device = "3" }]
retention = 14
"""


def write(directory: Path, text: str, name: str = "xobackup.toml") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_configuration(path)
    return list(caught.value.problems)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    configuration = load_configuration(write(tmp_path, GOOD))
    job = configuration.jobs["nightly"]
    assert configuration.pools["paris"].url == "https://10.0.0.1"
    assert (job.retention, job.vms.include[0].tag, job.vms.include[1].name) == (14, "prod", "web*")
    assert job.disks.exclude[0].device == "3"


def test_drop_ins_add_and_override_in_order_of_name(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    write(tmp_path, "[jobs.nightly]\nretention = 20\n", "xobackup.d/10.toml")
    write(tmp_path, '[jobs.nightly]\nretention = 30\n[remotes.b]\nurl = "file:///b"\n', "xobackup.d/20.toml")
    write(tmp_path, "not = [toml", "xobackup.d/ignored.txt")
    configuration = load_configuration(path)
    assert configuration.jobs["nightly"].retention == 30
    assert set(configuration.remotes) == {"nas", "b"}
    assert [file.name for file in files_of(path)] == ["xobackup.toml", "10.toml", "20.toml"]


def test_a_problem_in_a_drop_in_names_the_drop_in(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    drop_in = write(tmp_path, "[jobs.nightly]\nretention = 0\n", "xobackup.d/10.toml")
    (problem,) = problems(path)
    assert problem.startswith(f"{drop_in}: jobs.nightly.retention: ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("retention = 14", "retnetion = 14"), "jobs.nightly.retnetion: there is no such key"),
        (('pool = "paris"', ""), "jobs.nightly.pool: this key is missing"),
        (('pool = "paris"', 'pool = "rome"'), "jobs.nightly.pool: there is no pool 'rome' (known: paris)"),
        (('remotes = ["nas"]', 'remotes = ["nsa"]'), "there is no remote 'nsa' (known: nas)"),
        (('remotes = ["nas"]', 'remotes = ["nas", "nas"]'), "a remote is named twice"),
        (('remotes = ["nas"]', "remotes = []"), "remotes: name at least one"),
        (('tag = "prod"', 'tga = "prod"'), "jobs.nightly.vms.include.0.tga: there is no such key"),
        (('{ tag = "prod" }', "{}"), 'for all VMs write name = "*"'),
        (('url = "10.0.0.1"', 'url = "ftp://10.0.0.1"'), "pools.paris.url: expected https://host"),
        (('url = "10.0.0.1"', 'url = "https://root:pw@10.0.0.1"'), "pools.paris.url: expected https://host"),
        (
            ('password = "secret"', 'password = { env = "A", file = "/b" }'),
            "expected exactly one of env, file, command",
        ),
        (('password = "secret"', "password = {}"), "found none"),
        (('password = "secret"', 'password = "x"\ntls = { fingerprint = "12" }'), "64 hexadecimal digits"),
        (('password = "secret"', 'password = "x"\ntls = { verify = false, ca = "/x" }'), "at most one of ca"),
        (("[pools.paris]", '[pools."../paris"]'), "expected a name of letters"),
    ],
)
def test_a_refusal_names_the_key(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    assert change[0] in GOOD
    path = write(tmp_path, GOOD.replace(*change))
    found = problems(path)
    assert any(expected in problem for problem in found), found
    assert all(problem.startswith(str(path)) for problem in found)


def test_two_jobs_with_one_id_are_refused(tmp_path: Path) -> None:
    one = 'id = "bbbbbbbb-0000-4000-8000-000000000001"\n'
    other = GOOD[GOOD.index("[jobs.nightly]") :].replace("nightly", "weekly")
    (problem,) = problems(write(tmp_path, GOOD + one + other + one))
    assert "the same as that of job 'nightly'" in problem


ID = 'id = "bbbbbbbb-0000-4000-8000-000000000001"\n'


@pytest.mark.parametrize("first", ["", 'schedule_id = "cccccccc-0000-4000-8000-000000000001"\n'])
def test_schedules_of_one_job_share_its_id(tmp_path: Path, first: str) -> None:
    apart = (first, 'schedule_id = "cccccccc-0000-4000-8000-000000000002"\n')
    other = GOOD[GOOD.index("[jobs.nightly]") :].replace("nightly", "weekly")
    configuration = load_configuration(write(tmp_path, GOOD + ID + apart[0] + other + ID + apart[1]))
    nightly, weekly = configuration.jobs["nightly"], configuration.jobs["weekly"]
    assert nightly.id == weekly.id and nightly.schedule_id != weekly.schedule_id


def test_one_job_on_two_pools_shares_its_id_but_not_two_tables_of_one_schedule(tmp_path: Path) -> None:
    same = ID + 'schedule_id = "cccccccc-0000-4000-8000-000000000001"\n'
    other = GOOD[GOOD.index("[jobs.nightly]") :].replace("nightly", "weekly")
    rome = '[pools.rome]\nurl = "10.0.0.2"\npassword = "x"\n'
    on_rome = other.replace('pool = "paris"', 'pool = "rome"')
    assert len(load_configuration(write(tmp_path, GOOD + same + on_rome + same + rome)).jobs) == 2
    (problem,) = problems(write(tmp_path, GOOD + same + other + same))
    assert "the same as that of job 'nightly'" in problem and "a schedule_id of its own" in problem


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_configuration(tmp_path / "absent.toml")
    assert "No such file" in str(caught.value)
    assert "--config" in (caught.value.hint or "")


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"a = [", b"[" * 5000, b"a" * (4 * 1024 * 1024 + 1)])
def test_garbage_is_one_clear_problem(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(raw)
    (problem,) = problems(path)
    assert problem.startswith(str(path))


@given(raw=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_any_bytes_raise_only_config_errors(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(raw)
    try:
        load_configuration(path)
    except ConfigError as error:
        assert error.problems


def test_the_path_comes_from_option_environment_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XOBACKUP_CONFIG", raising=False)
    assert configuration_path(None) == Path("/etc/xobackup/xobackup.toml")
    monkeypatch.setenv("XOBACKUP_CONFIG", "/x.toml")
    assert configuration_path(None) == Path("/x.toml")
    assert configuration_path(Path("/y.toml")) == Path("/y.toml")
