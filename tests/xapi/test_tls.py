from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from xobackup.clock import SystemClock
from xobackup.xapi.errors import TlsError
from xobackup.xapi.http11 import Connection
from xobackup.xapi.session import Session
from xobackup.xapi.tls import Ca, Fingerprint, SystemCa, TlsPolicy, Unverified, context_for, fingerprint
from xotest.certificates import make_certificate
from xotest.scripted_xapi import QUICK, ScriptedXapi


def login(host: ScriptedXapi, policy: TlsPolicy) -> None:
    Session.connect(host.address(tls=policy), clock=SystemClock()).close()


def test_each_policy_lets_the_right_host_in(host: ScriptedXapi) -> None:
    login(host, Ca(host.certificate.cert_path))
    login(host, Fingerprint(host.certificate.sha256))
    login(host, Unverified())


def test_a_fingerprint_may_be_written_as_openssl_does(host: ScriptedXapi) -> None:
    der = ssl.PEM_cert_to_DER_cert(host.certificate.cert_path.read_text())
    login(host, Fingerprint(fingerprint(der)))


def test_one_of_several_fingerprints_is_enough(host: ScriptedXapi) -> None:
    login(host, Fingerprint(f"{'ab' * 32}, {host.certificate.sha256}"))


@pytest.mark.parametrize("policy", [Fingerprint("ab" * 32), SystemCa()])
def test_a_stranger_is_refused_before_the_password_is_sent(host: ScriptedXapi, policy: TlsPolicy) -> None:
    with pytest.raises(TlsError) as caught:
        login(host, policy)
    assert host.calls == []
    assert caught.value.found_sha256 is not None
    assert caught.value.found_sha256.replace(":", "").lower() == host.certificate.sha256
    assert caught.value.found_sha256 in str(caught.value)
    assert "pin this fingerprint" in str(caught.value.hint)


def test_the_fingerprint_found_can_be_pinned_as_it_is(host: ScriptedXapi) -> None:
    with pytest.raises(TlsError) as caught:
        login(host, SystemCa())
    login(host, Fingerprint(str(caught.value.found_sha256)))


def test_another_ca_is_refused(host: ScriptedXapi, tmp_path: Path) -> None:
    other = make_certificate(tmp_path, name="other")
    with pytest.raises(TlsError, match="not trusted"):
        login(host, Ca(other.cert_path))


def test_an_expired_certificate_is_refused_by_ca_and_accepted_when_pinned(tmp_path: Path) -> None:
    with ScriptedXapi(tmp_path, expired=True) as host:
        with pytest.raises(TlsError, match="expired"):
            login(host, Ca(host.certificate.cert_path))
        login(host, Fingerprint(host.certificate.sha256))


def test_the_host_name_is_checked_unless_told_otherwise(tmp_path: Path) -> None:
    with ScriptedXapi(tmp_path, certified_address="192.0.2.7") as host:
        with pytest.raises(TlsError, match="mismatch"):
            login(host, Ca(host.certificate.cert_path))
        login(host, Ca(host.certificate.cert_path, check_hostname=False))


def test_transfers_check_the_pin_too(host: ScriptedXapi) -> None:
    endpoint = host.address().endpoint()
    with pytest.raises(TlsError):
        Connection.open(endpoint, tls=context_for(Fingerprint("cd" * 32)), connect_s=2.0)


def test_old_tls_is_not_offered() -> None:
    assert context_for(Unverified()).minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("text", ["", "ab", "zz" * 32, "ab" * 31, "ab" * 32 + " x"])
def test_a_bad_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(TlsError):
        context_for(Fingerprint(text))


def test_a_bad_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        with pytest.raises(TlsError, match="PEM"):
            context_for(Ca(path))


def test_a_host_without_tls_is_told_apart(tmp_path: Path) -> None:
    with ScriptedXapi(tmp_path, tls=False) as host:
        address = type(host.address())(
            url=host.url.replace("http:", "https:"), username="r", password="p", tls=Unverified(), timeouts=QUICK
        )
        with pytest.raises(TlsError, match="TLS does not come about"):
            Session.connect(address, clock=SystemClock())
        with pytest.raises(TlsError, match="TLS does not come about"):
            Connection.open(address.endpoint(), tls=context_for(Unverified()), connect_s=2.0)
