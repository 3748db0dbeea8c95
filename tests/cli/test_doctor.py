"""``doctor`` looks at everything, whatever it found before."""

from __future__ import annotations

from xotest.site import Site


def test_a_healthy_site(site: Site) -> None:
    result = site.xobackup("doctor")
    told = result.out
    assert "is writable, holds backups of 0 VMs" in told
    assert "pool sim: XCP-ng 8.3.0, 1 host, master" in told
    assert "job nightly: 2 VMs, about 20.0 MiB to read now" in told
    assert not list(site.repository.rglob("*.probe"))
    verdicts = site.xobackup("doctor", "--json").of("verdict")
    assert {verdict["state"] for verdict in verdicts} <= {"ok", "warning"}


def test_what_is_wrong_is_told_once_with_a_hint_and_the_rest_is_looked_at(site: Site) -> None:
    site.configure(remotes='["nas", "other"]', replace=(site.pool.password, "wrong"))
    result = site.xobackup("doctor", code=6)
    assert f"failed   remote other: file://{site.other}: " in result.out
    assert "failed   pool sim: " in result.out and "hint: check the pool's username and password" in result.out
    assert "failed   job nightly: it needs pool sim, see above" in result.out
    assert "remote nas" in result.out
    assert "error: not usable as it is: remote other, pool sim, job nightly" in result.err


def test_an_unverified_certificate_is_a_warning(site: Site) -> None:
    site.configure(replace=(f'fingerprint = "{site.pool.fingerprint_sha256}"', "verify = false"))
    result = site.xobackup("doctor")
    assert "warning  pool sim: its certificate is not verified" in result.out and "hint: pin it" in result.out


def test_a_job_that_selects_nothing_is_a_warning(site: Site) -> None:
    site.configure(replace=('tag = "prod"', 'tag = "absent"'))
    assert "warning  job nightly: it selects no VM" in site.xobackup("doctor").out
