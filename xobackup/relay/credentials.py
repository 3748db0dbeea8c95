"""The key and the certificate of one worker process, and TLS 1.3 between two of them.

Both are made when the process starts and end with it: the key is never kept, and what is stolen from a disk opens
nothing. The certificate is public; the board tells it to the others. Each side trusts exactly the certificates that
it was given, of workers that live, and knows by the one shown which of them it talks to. Dates in them say nothing,
because clocks of machines may differ.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from xobackup.relay.errors import RelayError

BEGIN, END = datetime(2000, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """``certificate``: PEM. ``key``: PEM, in memory only."""

    certificate: str
    key: str = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.certificate)


def make_credentials(name: str) -> Credentials:
    """New ones for the worker ``name``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return Credentials(
        certificate=made.public_bytes(serialization.Encoding.PEM).decode("ascii"), key=pem.decode("ascii")
    )


def fingerprint_of(certificate: str) -> str:
    """SHA-256 of a PEM certificate's DER form, in hexadecimal. Raises :class:`RelayError` for what is none."""
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate.strip())
    except ValueError as error:
        raise RelayError(f"expected a certificate (PEM), found {certificate[:40]!r}") from error
    return hashlib.sha256(der).hexdigest()


def shown_by(sock: ssl.SSLSocket) -> str:
    """The fingerprint of the certificate that the other side showed, ``""`` for none."""
    der = sock.getpeercert(binary_form=True)
    return hashlib.sha256(der).hexdigest() if der else ""


def server_context(own: Credentials, trusted: Sequence[str]) -> ssl.SSLContext:
    """For the relay: only who has the key of one of the ``trusted`` certificates (PEM) comes in."""
    return _context(ssl.PROTOCOL_TLS_SERVER, own, trusted)


def client_context(own: Credentials, relay: str) -> ssl.SSLContext:
    """For who asks: nobody but the relay with that certificate (PEM) is talked to."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, own, [relay])


def _context(protocol: int, own: Credentials, trusted: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # one certificate is trusted, not names
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _load_own(context, own)
    for certificate in trusted:
        try:
            context.load_verify_locations(cadata=certificate)
        except (ssl.SSLError, ValueError):
            continue  # somebody's certificate that is none lets nobody in, and keeps nobody out
    return context


def _load_own(context: ssl.SSLContext, own: Credentials) -> None:
    """OpenSSL takes them from a file only: one that nobody else can open, gone at once."""
    descriptor, path = tempfile.mkstemp(prefix="xobackup-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(own.key + own.certificate)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()
