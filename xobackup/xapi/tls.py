"""Whom we talk to: policies, checked on the very connection that is then used, before any byte of ours.

XAPI hosts have self-signed certificates, one per host. So an operator pins fingerprints (sha256 of the DER
certificate, as ``openssl x509 -fingerprint -sha256`` shows it), or gives a bundle of the hosts' certificates or their
CA, or says explicitly that nothing is verified. When verification fails, the error carries the fingerprint found.
TLS 1.2 at least.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xobackup.xapi.errors import TlsError


@dataclass(frozen=True, slots=True)
class Ca:
    """Trust a bundle of CAs, or of the hosts' own certificates (PEM)."""

    path: Path
    check_hostname: bool = True
    """Exports may be redirected to a host by its IP address, which its certificate may not name."""


@dataclass(frozen=True, slots=True)
class SystemCa:
    """Trust whom the system trusts."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Trust certificates by sha256: one, or several (one per host) separated by commas or spaces; colons optional."""

    sha256: str

    def digests(self) -> frozenset[str]:
        """Lower-case hexadecimal, validated."""
        found = frozenset(part.replace(":", "").lower() for part in re.split(r"[\s,]+", self.sha256.strip()) if part)
        for digest in found:
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                problem = f"a sha256 fingerprint has 64 hexadecimal digits, found {digest!r}"
                raise TlsError("the configured fingerprint", problem)
        if not found:
            raise TlsError("the configured fingerprint", "it is empty")
        return found


@dataclass(frozen=True, slots=True)
class Unverified:
    """Trust anybody: only for laboratories. Also the only policy under which plain ``http://`` is allowed."""


Dial = Callable[[str, int, float], socket.socket]
"""A connection to a host and port, within so many seconds. Raises ``OSError``."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Somebody else connects for us, from where the hosts are, and checks whom he talks to by his own policy. What
    ``dial`` gives is what is inside of TLS."""

    dial: Dial = field(compare=False)


TlsPolicy = Ca | SystemCa | Fingerprint | Unverified | Elsewhere


def fingerprint(certificate_der: bytes) -> str:
    """sha256 of a DER certificate, as openssl prints it."""
    digest = hashlib.sha256(certificate_der).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


class CheckedContext(ssl.SSLContext):
    """An SSL context whose handshake also checks the policy, whoever performs it."""

    pinned: frozenset[str] | None = None
    dial: Dial | None = None
    """Of :class:`Elsewhere`: no handshake is ours."""

    def wrap_socket(self, sock: socket.socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Shake hands; raises :class:`TlsError` naming the fingerprint found if this is not whom we expect."""
        peer = sock.getpeername()
        timeout_s = sock.gettimeout()
        name = kwargs.get("server_hostname") or peer[0]
        try:
            wrapped = super().wrap_socket(sock, *args, **kwargs)
        except ssl.SSLCertVerificationError as error:
            sock.close()
            problem = f"its certificate is not trusted: {error.verify_message or error.reason}"
            raise TlsError(str(name), problem, found_sha256=_probe(peer, timeout_s)) from error
        if self.pinned is not None:
            try:
                self._check_pin(wrapped, str(name))
            except TlsError:
                wrapped.close()
                raise
        return wrapped

    def _check_pin(self, wrapped: ssl.SSLSocket, name: str) -> None:
        certificate = wrapped.getpeercert(binary_form=True)
        if not certificate:
            raise TlsError(name, "it shows no certificate, expected a pinned one")
        found = fingerprint(certificate)
        if found.replace(":", "").lower() not in (self.pinned or frozenset()):
            raise TlsError(name, "its certificate is not the pinned one", found_sha256=found)


def context_for(policy: TlsPolicy) -> CheckedContext:
    """The SSL context that enforces ``policy``."""
    context = CheckedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if isinstance(policy, SystemCa):
        context.load_default_certs()
        return context
    if isinstance(policy, Ca):
        context.check_hostname = policy.check_hostname
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a host's own certificate may be the anchor
        _load(context, policy.path)
        return context
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if isinstance(policy, Elsewhere):
        context.dial = policy.dial
    if isinstance(policy, Fingerprint):
        context.pinned = policy.digests()
    return context


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=str(path))
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TlsError(str(path), f"cannot be used as a bundle of certificates (PEM): {reason}") from error


def _probe(peer: Any, timeout_s: float | None) -> str | None:
    """The fingerprint a host shows; asked on a connection of its own over which nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection(peer[:2], timeout=timeout_s or 10.0) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        certificate = wrapped.getpeercert(binary_form=True)
        return fingerprint(certificate) if certificate else None
    return None
