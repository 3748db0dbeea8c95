"""The whole translation: what is written loads, keeps ids, and says everything it does not keep."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path, PurePath
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xobackup.cli.jobs import job_of
from xobackup.config.from_xo.credentials import Keeping
from xobackup.config.from_xo.errors import BadExport
from xobackup.config.from_xo.export import read_export
from xobackup.config.from_xo.plan import Plan, Wishes, translate
from xobackup.config.from_xo.records import OBFUSCATED
from xobackup.config.from_xo.remarks import Level
from xobackup.config.from_xo.settings import OPTIONS
from xobackup.config.load import load_configuration
from xobackup.config.model import Configuration
from xotest.xo_config import (
    DB,
    LYON,
    LYON_POOL,
    NAS,
    NIGHTLY,
    PARIS_POOL,
    ROLLING,
    SMART,
    WEB,
    job,
    schedule,
    schedule_id,
    small_export,
    whole_export,
)  # fmt: skip

PAGE = Path(__file__).parents[3] / "docs" / "xen-orchestra.md"


def planned(value: dict[str, Any], **wishes: Any) -> Plan:
    return translate(read_export(json.dumps(value).encode(), "export.json"), "export.json", Wishes(**wishes))


def loaded(plan: Plan, directory: Path) -> Configuration:
    """Through the loader, and each job as the engine takes it."""
    path = directory / "x.toml"
    path.write_text(plan.toml)
    configuration = load_configuration(path)
    for name in configuration.job_names:
        job_of(configuration, name, with_secrets=False)
    return configuration


def one_job(tmp_path: Path, general: dict[str, Any], **of_job: Any) -> tuple[Any, list[str]]:
    """Our section for a job with these settings (``None`` when it is refused), and what is said about it."""
    value = small_export()
    value["jobs"][0] |= of_job
    value["jobs"][0]["settings"][""] = general
    plan = planned(value)
    configuration = loaded(plan, tmp_path)
    told = [str(remark) for remark in plan.remarks if remark.about.startswith("job")]
    return (next(iter(configuration.jobs.values())) if configuration.jobs else None), told


def test_jobs_keep_the_ids_by_which_chains_and_retention_go_on(tmp_path: Path) -> None:
    configuration = loaded(planned(whole_export()), tmp_path)
    daily, weekly = configuration.jobs["Nightly-prod-daily"], configuration.jobs["Nightly-prod-weekly"]
    assert str(daily.id) == str(weekly.id) == NIGHTLY
    assert (str(daily.schedule_id), str(weekly.schedule_id)) == (schedule_id(1), schedule_id(2))
    assert (daily.retention, weekly.retention, daily.full_interval, weekly.full_interval) == (14, 4, 0, 1)
    assert str(configuration.metadata_jobs["Pools"].schedule_id) == schedule_id(5)


def test_every_job_is_written_or_refused_by_name(tmp_path: Path) -> None:
    plan = planned(whole_export())
    assert set(loaded(plan, tmp_path).all_job_names) == set(plan.jobs)
    assert sorted(plan.jobs) == [
        "Full",
        "Long-term",
        "Mirror",
        "Nightly-prod-daily",
        "Nightly-prod-weekly",
        "Pools",
        "Smart",
    ]
    assert sorted(remark.about for remark in plan.of(Level.REFUSED)) == [
        'job "Replication"', 'remote "blob"',
    ]  # fmt: skip
    assert all(f"#   {remark.about}: {remark.text}" in plan.toml.splitlines() for remark in plan.remarks)


def test_a_disabled_schedule_is_a_comment_until_asked_for(tmp_path: Path) -> None:
    assert "# [jobs.Snapshots]" in planned(whole_export()).toml
    configuration = loaded(planned(whole_export(), with_disabled=True), tmp_path)
    snapshots = configuration.jobs["Snapshots"]
    assert (snapshots.snapshot_retention, snapshots.remotes, str(snapshots.id)) == (5, (), ROLLING)


def test_a_sequence_says_which_jobs_to_run_and_keeps_its_schedules_alive() -> None:
    plan = planned(whole_export())
    assert any("xobackup run Nightly-prod-daily Full" in remark.text for remark in plan.of(Level.NOTE))
    assert "\n[jobs.Full]\n" in plan.toml


def test_smart_mode_becomes_rules(tmp_path: Path) -> None:
    smart = loaded(planned(whole_export()), tmp_path).jobs["Smart"]
    include = [rule.model_dump(exclude_none=True) for rule in smart.vms.include]
    assert include == [{"tag": "prod", "power_state": "Running"}, {"tag": "web", "power_state": "Running"}]
    assert [rule.tag for rule in smart.vms.exclude] == ["scratch"]


@pytest.mark.parametrize(
    ("option", "key", "expected"),
    [
        ({"concurrency": 3}, "vms_max", 3),
        ({"concurrency": 0}, "vms_max", 64),
        ({"diskPerVmConcurrency": 2}, "disks_max", 2),
        ({"nRetriesVmBackupFailures": 0}, "retries", 0),
        ({"maxExportRate": 52428800}, "rate_limit_mib_s", 50.0),
        ({"maxExportRate": 0}, "rate_limit_mib_s", None),
        ({"fullInterval": 20}, "full_interval", 20),
        ({"preferNbd": True}, "nbd", "auto"),
        ({"preferNbd": False}, "nbd", "off"),
        ({"nbdConcurrency": 8}, "nbd_connections", 8),
        ({"preferNbd": True, "cbtDestroySnapshotData": True}, "purge_snapshot_data", True),
        ({"cbtDestroySnapshotData": True}, "purge_snapshot_data", False),
        ({"checkpointSnapshot": True}, "snapshot", "memory"),
        ({"offlineSnapshot": True}, "snapshot", "offline"),
        ({"offlineSnapshot": True, "checkpointSnapshot": True}, "snapshot", "offline"),
        ({"offlineBackup": True}, "snapshot", "offline"),
        ({"bypassVdiChainsCheck": True}, "check_chains", False),
        ({"snapshotRetention": 3}, "snapshot_retention", 3),
        ({"snapshotNameLabelTpl": "{job.name} {vm.name_label}"}, "snapshot_name", "{job} {vm}"),
    ],
)
def test_an_option_becomes_a_key(tmp_path: Path, option: dict[str, Any], key: str, expected: Any) -> None:
    section, _ = one_job(tmp_path, option)
    assert getattr(section, key) == expected


def test_consistent_groups(tmp_path: Path) -> None:
    section, _ = one_job(tmp_path, {"synchronizedSnapshot": "erp", "snapshotConcurrency": 3})
    assert (section.consistent.tag, section.consistent.snapshots_max) == ("erp", 3)
    section, _ = one_job(tmp_path, {"synchronizedSnapshot": True})
    assert section.consistent is not None and section.consistent.tag is None


def test_backups_that_are_distributed_stay_so_where_there_is_a_choice(tmp_path: Path) -> None:
    section, told = one_job(tmp_path, {"distributeBackups": True})
    assert not section.distribute and any("no choice between remotes" in text for text in told)
    value = whole_export()
    value["jobs"][0]["settings"][""]["distributeBackups"] = True
    jobs = loaded(planned(value), tmp_path).jobs
    assert jobs["Nightly-prod-daily"].distribute and len(jobs["Nightly-prod-daily"].remotes) == 2
    assert not jobs["Smart"].distribute


@pytest.mark.parametrize(("theirs", "ours"), [("", "none"), ("native", "gzip"), ("zstd", "zstd")])
def test_compression_of_fulls(tmp_path: Path, theirs: str, ours: str) -> None:
    section, _ = one_job(tmp_path, {"offlineBackup": True}, mode="full", compression=theirs)
    assert (section.mode, section.compression, section.offline_backup) == ("full", ours, True)


def test_the_long_term(tmp_path: Path) -> None:
    rules = {
        "weekly": {"retention": 4, "settings": {"firstDayOfWeek": 1}},
        "yearly": {"retention": 10, "settings": {}},
    }
    section, _ = one_job(tmp_path, {"longTermRetention": rules, "timezone": "Europe/Paris"})
    keep = section.keep
    assert (keep.daily, keep.weekly, keep.yearly, keep.first_day_of_week) == (0, 4, 10, 1)
    assert keep.timezone == "Europe/Paris"


@pytest.mark.parametrize(
    ("general", "of_job", "expected"),
    [
        ({"longTermRetention": {"daily": {"retention": 3}}}, {}, "the first run would delete the restore points"),
        ({"longTermRetention": {"hourly": {"retention": 3}}, "timezone": "UTC"}, {}, "hourly is not known here"),
        (
            {"longTermRetention": {"daily": 3}, "timezone": "UTC"},
            {},
            "daily: expected retention and settings, found 3",
        ),
        ({"longTermRetention": {"daily": {"retention": -1}}, "timezone": "UTC"}, {}, "from 1 to 100000, found -1"),
        ({}, {"mode": "weekly"}, 'mode: expected "full" or "delta"'),
        ({}, {"remotes": {"id": "gone"}}, "none of its remotes could be translated"),
        ({}, {"remotes": {}}, "remotes: expected ids"),
        ({}, {"vms": {"id": {"__or": []}}}, "no VM can fit"),
        ({}, {"vms": {"tags": ["a", "b"]}}, "two tags at once"),
        ({}, {"id": "12"}, "is no uuid"),
        ({}, {"type": "strange"}, "of a kind that is not known here"),
        ({}, {"vms": {"id": "not a uuid"}}, "vms.include.0.uuid"),
        ({}, {"settings": {"": {}, NAS: {"exportRetention": 99}}}, "its retention would become the job's"),
        ({}, {"settings": {"": {}, DB: {"exportRetention": 99}}}, "its retention would become the job's"),
        ({"offlineBackup": True, "snapshotRetention": 1}, {"mode": "full"}, "offline_backup takes none"),
    ],
)
def test_what_would_not_do_the_same_is_refused(
    tmp_path: Path, general: dict[str, Any], of_job: dict[str, Any], expected: str
) -> None:
    value = small_export()
    value["jobs"][0] |= of_job
    value["jobs"][0]["settings"] |= {"": general, schedule_id(1): {"exportRetention": 7}}
    value["schedules"][0]["jobId"] = value["jobs"][0]["id"]
    value["jobs"].append(job(SMART, "another", settings={schedule_id(2): {"exportRetention": 1}}))
    value["schedules"].append(schedule(2, SMART))
    plan = planned(value)
    assert [expected in remark.text for remark in plan.of(Level.REFUSED)] == [True], plan.remarks
    assert list(loaded(plan, tmp_path).jobs) == ["another"]


COUNTS = ("fullInterval", "concurrency", "diskPerVmConcurrency", "nRetriesVmBackupFailures", "nbdConcurrency")


def test_every_option_is_translated_or_told(tmp_path: Path) -> None:
    """Whatever it is set to: a key of ours changes, or there is a line about it."""
    silent = {"timezone"}  # means something to longTermRetention only, which reads it
    plain, _ = one_job(tmp_path, {})
    for name in set(OPTIONS) - silent - {"exportRetention"}:
        value: Any = {"mergeBackupsSynchronously": False, "preferNbd": False}.get(name, True)
        value = 5 if name in COUNTS else value
        section, told = one_job(tmp_path, {name: value})
        assert section != plain or any(name in line for line in told), name


def test_options_are_those_of_the_page() -> None:
    """docs/xen-orchestra.md lists every option; a setting that has a row there is known here."""
    named = set(re.findall(r"`([a-zA-Z]+)`", PAGE.read_text()))
    assert sorted(name for name in OPTIONS if name not in named) == []


@pytest.mark.parametrize("value", ["7", True, -1, 1.5, float(10**30), [], {}])
def test_a_number_that_is_none_is_told_and_the_default_holds(tmp_path: Path, value: Any) -> None:
    for name in ("concurrency", "nbdConcurrency", "maxExportRate", "fullInterval", "snapshotRetention"):
        section, told = one_job(tmp_path, {name: value})
        assert section is not None and any(name in line for line in told)


def test_an_option_nobody_knows_is_told(tmp_path: Path) -> None:
    _, told = one_job(tmp_path, {"brandNew": {"a": 1}}, shape=7)
    assert any("brandNew" in line for line in told) and any("shape" in line for line in told)


def test_secrets_are_named_not_shown() -> None:
    plan = planned(whole_export())
    told = plan.toml + repr(plan) + "".join(map(str, plan.remarks)) + str(plan.missing)
    for secret in ("paris secret", "s/ecret+", "s%2Fecret", "0123456789abcdef", "pas:sw@ord", ":key@"):
        assert secret not in told
    assert {one.key for one in plan.missing} == {
        "pools.Paris.password", "remotes.S3-off-site.credentials.secret_key", "remotes.S3-off-site.encryption.key",
    }  # fmt: skip


def test_secrets_where_nobody_expects_them_are_not_shown_either() -> None:
    value = whole_export()
    value["xenServers"].append(
        {**value["xenServers"][0], "id": LYON, "label": "", "host": "https://root:hidden@10.0.0.3"}
    )
    value["remotes"][2]["options"] = "vers=3.0,password=hidden"
    value["jobs"][0]["settings"][""]["newPassphrase"] = "hidden"
    plan = planned(value)
    assert "hidden" not in plan.toml + "".join(map(str, plan.remarks))
    assert "its address holds a user or a password" in plan.toml and "newPassphrase" in plan.toml


def test_secrets_in_files_are_apart_from_the_configuration() -> None:
    plan = planned(whole_export(), keeping=Keeping.FILES, secrets_directory=PurePath("/etc/x.secrets"))
    contents = {file.path.name: file.content for file in plan.files}
    assert contents["pools.Paris.password"] == "paris secret\n"
    assert contents["remotes.S3-off-site.credentials.secret_key"] == "s/ecret+\n"
    assert contents["remotes.share.mount"] == "username=backup\npassword=pas:sw@ord\ndomain=CORP\n"
    assert 'password = { file = "/etc/x.secrets/pools.Paris.password" }' in plan.toml and not plan.missing


def test_secrets_in_clear_only_when_asked(tmp_path: Path) -> None:
    configuration = loaded(planned(whole_export(), keeping=Keeping.INLINE), tmp_path)
    held = configuration.pools["Paris"].password.value
    assert held is not None and held.get_secret_value() == "paris secret"


@pytest.mark.parametrize("keeping", list(Keeping))
def test_an_obfuscated_secret_counts_as_none(keeping: Keeping) -> None:
    value = small_export()
    value["xenServers"][0]["password"] = OBFUSCATED
    plan = planned(value, keeping=keeping, secrets_directory=PurePath("/s"))
    assert OBFUSCATED not in plan.toml and [one.key for one in plan.missing] == ["pools.Paris.password"]
    assert not plan.files


def two_servers() -> dict[str, Any]:
    value = small_export()
    value["xenServers"].append({**value["xenServers"][0], "host": "10.0.0.2", "label": "Lyon", "id": LYON})
    return value


def test_of_several_pools_a_job_for_all_vms_becomes_one_for_each(tmp_path: Path) -> None:
    value = two_servers()
    value["jobs"][0]["vms"] = {"type": "VM"}
    jobs = loaded(planned(value), tmp_path).jobs
    assert {name: section.pool for name, section in jobs.items()} == {
        "Nightly-Paris": "Paris",
        "Nightly-Lyon": "Lyon",
    }
    assert len({(section.id, section.schedule_id) for section in jobs.values()}) == 1


def test_vms_by_id_on_several_pools_are_refused_until_somebody_tells(tmp_path: Path) -> None:
    value = two_servers()
    (refused,) = planned(value).of(Level.REFUSED)
    assert "on which of the servers is VM" in refused.text and "--pool" in refused.text
    jobs = loaded(planned(value, said={DB: "Paris", WEB: "10.0.0.2"}), tmp_path).jobs
    assert {section.pool: str(section.vms.include[0].uuid) for section in jobs.values()} == {"Paris": DB, "Lyon": WEB}


def test_pools_of_a_pattern_are_told_apart(tmp_path: Path) -> None:
    value = two_servers()
    value["jobs"][0]["vms"] = {"type": "VM", "$pool": {"__or": [LYON_POOL]}, "tags": {"__or": [["a"]]}}
    assert "which of the servers is pool" in planned(value).of(Level.REFUSED)[0].text
    (section,) = loaded(planned(value, said={LYON_POOL: "Lyon", PARIS_POOL: "Paris"}), tmp_path).jobs.values()
    assert section.pool == "Lyon"


def test_a_server_nobody_knows_is_refused() -> None:
    with pytest.raises(BadExport, match="no single server is 'Rome'"):
        planned(small_export(), said={LYON_POOL: "Rome"})


HOSTILE = ["../../etc/passwd", "", "Ночной", "a\n[pools.evil]\nurl = 'x'", '"]', "x" * 500, "\ud800", "\x1b[31m", "#"]


def test_hostile_and_equal_names_become_names_of_ours(tmp_path: Path) -> None:
    value = small_export()
    names = HOSTILE * 2
    value["jobs"] = [
        job(f"bbbbbbbb-0000-4000-8000-{number:012}", name, settings={schedule_id(number): {"exportRetention": 1}})
        for number, name in enumerate(names)
    ]
    value["schedules"] = [schedule(number, one["id"], name=one["name"]) for number, one in enumerate(value["jobs"])]
    value["remotes"] = [
        {**value["remotes"][0], "name": name, "id": f"r{number}"} for number, name in enumerate(names)
    ]
    value["remotes"][0]["id"] = NAS
    value["xenServers"][0]["label"] = HOSTILE[3]
    plan = planned(value)
    configuration = loaded(plan, tmp_path)
    assert len(configuration.jobs) == len(names) == len(configuration.remotes)
    assert len({name.lower() for name in configuration.jobs}) == len(names)
    assert set(tomllib.loads(plan.toml)) == {"pools", "remotes", "jobs"} and len(configuration.pools) == 1
    assert "\x1b" not in plan.toml + "".join(map(str, plan.remarks))


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    value = small_export()
    for kind in ("jobs", "schedules", "remotes"):
        value[kind] *= 2
    plan = planned(value)
    assert len(plan.of(Level.REFUSED)) == 3 and len(loaded(plan, tmp_path).jobs) == 1


@pytest.mark.slow
def test_ten_thousand_jobs(tmp_path: Path) -> None:
    value = small_export()
    ids = [f"bbbbbbbb-0000-4000-8000-{number:012}" for number in range(10_000)]
    value["jobs"] = [
        job(one, "same", vms={"id": DB}, settings={schedule_id(number): {"exportRetention": 1}})
        for number, one in enumerate(ids)
    ]
    value["schedules"] = [schedule(number, one) for number, one in enumerate(ids)]
    plan = planned(value)
    assert len(plan.jobs) == len(set(plan.jobs)) == 10_000 and plan.jobs[-1] == "same-10000"
    assert len(tomllib.loads(plan.toml)["jobs"]) == 10_000


def mutated(value: Any, draw: st.DrawFn) -> Any:
    """``value`` with something else in some places."""
    if draw(st.integers(0, 14)) == 0:
        return draw(st.sampled_from([None, True, -1, 0, 1e300, "", "x", "\ud800\0\n", [], {}, [[]], {"id": {}}]))
    if isinstance(value, dict):
        return {key: mutated(member, draw) for key, member in value.items()}
    if isinstance(value, list):
        return [mutated(member, draw) for member in value]
    return value


@st.composite
def exports(draw: st.DrawFn) -> dict[str, Any]:
    value = copy.deepcopy(whole_export())
    for kind in ("jobs", "schedules", "remotes", "xenServers"):
        value[kind] = [mutated(one, draw) for one in value[kind]]
    return value


@given(value=exports(), disabled=st.booleans(), keeping=st.sampled_from(Keeping))
@settings(suppress_health_check=list(HealthCheck), max_examples=60, deadline=None)
def test_any_export_gives_a_configuration_that_loads(
    tmp_path: Path, value: dict[str, Any], disabled: bool, keeping: Keeping
) -> None:
    wishes = {"with_disabled": disabled, "keeping": keeping, "secrets_directory": PurePath("/s")}
    plan = planned(value, **wishes)
    configuration = loaded(plan, tmp_path)
    assert set(configuration.all_job_names) == set(plan.jobs)


@pytest.mark.parametrize(
    "settings", [{"healthCheckSr": "9f1d2c4a"}, {"healthCheckSr": 5, "healthCheckVmsWithTags": ["a"]}]
)
def test_a_health_check_that_cannot_be_costs_no_backup(tmp_path: Path, settings: dict[str, Any]) -> None:
    """A schedule of rolling snapshots has nothing to restore; what is no SR is none."""
    section, told = one_job(tmp_path, {"snapshotRetention": 3, **settings}, remotes={"id": {"__or": []}})
    assert section.snapshot_retention == 3 and section.health_check is None
    assert any("healthCheckSr" in line for line in told)


def test_a_health_check_of_xen_orchestra_becomes_ours(tmp_path: Path) -> None:
    options = {"healthCheckSr": "9f1d2c4a", "healthCheckVmsWithTags": ["gold"], "healthCheckTimeout": 300_000}
    section, _ = one_job(tmp_path, options)
    checks = section.health_check
    assert (checks.sr, checks.tags, checks.timeout_s) == ("9f1d2c4a", ("gold",), 300)
    section, told = one_job(
        tmp_path, {"healthCheckSr": 5, "healthCheckVmsWithTags": ["gold"], "healthCheckTimeout": 1}
    )
    assert section.health_check is None and any("expected the uuid of an SR" in line for line in told)
