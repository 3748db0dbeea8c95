"""The guest's own hook: which tag counts, where it leads, and what a guest is asked."""

import base64
import os
from pathlib import Path

import pytest

from xobackup.engine import events
from xobackup.engine.hooks.guest import PORT, guest_call, wanted
from xobackup.engine.hooks.hook import GuestHooks
from xobackup.engine.run import plan_job
from xobackup.simpool import SimPool
from xotest.certificates import Certificate, make_certificate
from xotest.hook_server import hook_server
from xotest.lab import Lab, only

TAG = "xo:notify-on-snapshot"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ((), None),
        (("nightly", f"{TAG}-not", "xo:notify"), None),
        ((TAG,), TAG),
        ((f"{TAG}=https://a", TAG), TAG),
        ((TAG, f"{TAG}=https://b/", "z"), f"{TAG}=https://b/"),
    ],
)
def test_the_last_tag_that_matches_counts(tags: tuple[str, ...], expected: str | None) -> None:
    assert wanted(tags) == expected


@pytest.mark.parametrize(
    ("networks", "origin"),
    [
        ({"0/ip": "192.0.2.7", "0/ipv6/0": "2001:db8::1"}, "https://192.0.2.7:1727"),
        ({"0/ipv6/0": "2001:db8::1"}, "https://[2001:db8::1]:1727"),
        ({"1/ip": "192.0.2.7"}, ""),
        ({"0/ip": "evil.example/?"}, ""),
        ({}, ""),
    ],
)
def test_the_address_is_that_of_the_first_interface(networks: dict[str, str], origin: str) -> None:
    call = guest_call(TAG, networks)
    assert call.origin == origin and bool(call.problem) != bool(origin)


@pytest.mark.parametrize("url", ["", "ftp://x", "https://", "https://[", "x", "http://h:0/"])
def test_a_tag_that_names_no_web_address_is_a_problem(url: str) -> None:
    assert guest_call(f"{TAG}={url}", {}).problem


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path)


def tagged(pool: SimPool, lab: Lab, tag: str) -> None:
    pool.call("VM.add_tags", lab.vm, tag)


def test_a_guest_is_told_before_and_after_its_snapshot(lab: Lab, pool: SimPool, certificate: Certificate) -> None:
    with hook_server(certificate) as guest:
        tagged(pool, lab, f"{TAG}={guest.origin}/elsewhere?who=me")
        lab.guest_hooks = GuestHooks(secret="open sesame")
        report = only(lab.run())
        assert [(one.method, one.path) for one in guest.asked] == [
            ("GET", "/sync?who=me"),
            ("GET", "/post-sync?who=me"),
        ]
        token = base64.b64encode(b"open sesame").decode()
        assert {one.headers["Authorization"] for one in guest.asked} == {f"Bearer {token}"}
    assert [one.on for one in report.hooks] == ["/sync", "/post-sync"] and not report.warnings
    kinds = [type(one) for one in lab.journal.events]
    assert kinds.index(events.HookEnded) < kinds.index(events.PointPublished)
    assert "open sesame" not in str(lab.journal.events) + str(report)


def test_its_address_is_what_the_guest_tools_report(lab: Lab, pool: SimPool, certificate: Certificate) -> None:
    address = f"127.{1 + os.getpid() % 250}.{1 + os.getpid() // 250 % 250}.7"
    metrics = pool.model.get("VM", lab.vm)["guest_metrics"]
    pool.model.update("VM_guest_metrics", metrics, networks={"0/ip": address, "0/ipv4/0": address})
    tagged(pool, lab, TAG)
    with hook_server(certificate, at=(address, PORT)) as guest:
        lab.run()
        assert [one.path for one in guest.asked] == ["/sync", "/post-sync"]
        assert "Authorization" not in guest.asked[0].headers


def test_a_failure_is_only_warned_of(lab: Lab, pool: SimPool, certificate: Certificate) -> None:
    with hook_server(certificate) as guest:
        guest.status = 500
        tagged(pool, lab, f"{TAG}={guest.origin}")
        report = only(lab.run())
        assert len(guest.asked) == 2
    assert len(report.warnings) == 2 and "/sync" in report.warnings[0] and "500" in report.warnings[0]
    lab.check()


def test_verification_is_offered_and_then_nothing_is_sent_to_a_stranger(
    lab: Lab, pool: SimPool, certificate: Certificate
) -> None:
    with hook_server(certificate) as guest:
        tagged(pool, lab, f"{TAG}={guest.origin}")
        lab.guest_hooks = GuestHooks(secret="s", verify=True)
        assert "certificate verify failed" in only(lab.run()).warnings[0]
        assert guest.asked == []
        lab.guest_hooks = GuestHooks(secret="s", verify=True, ca=certificate.cert_path)
        assert not only(lab.run()).warnings
        assert len(guest.asked) == 2


def test_the_secret_never_travels_in_clear(lab: Lab, pool: SimPool) -> None:
    with hook_server() as guest:
        tagged(pool, lab, f"{TAG}={guest.origin}")
        lab.guest_hooks = GuestHooks(secret="s")
        lab.run()
        assert len(guest.asked) == 2 and all("Authorization" not in one.headers for one in guest.asked)


def test_the_plan_says_so(lab: Lab, pool: SimPool) -> None:
    tagged(pool, lab, TAG)
    (vm,) = plan_job(lab.job(), lab.world()).vms
    assert any(f"because of its tag {TAG}" in note for note in vm.notes)


def test_halted_vms_and_jobs_that_say_no_tell_nobody(lab: Lab, pool: SimPool) -> None:
    with hook_server() as guest:
        tagged(pool, lab, f"{TAG}={guest.origin}")
        lab.guest_hooks = GuestHooks(allowed=False)
        lab.run()
        lab.guest_hooks = GuestHooks()
        pool.call("VM.hard_shutdown", lab.vm)
        lab.run()
        assert guest.asked == []
