"""A host's self-signed RSA certificate, made once per process and kept in the pool's directory."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

CIPHERS = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
"""What stunnel offers on a host."""
SUBJECT = "simulated-host"
"""The DNS name that clients are told to verify."""
NOT_BEFORE, NOT_AFTER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC)


@cache
def _made() -> tuple[bytes, bytes]:
    """Certificate and key as PEM; RSA keys are dear, so that every pool of a process shares one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SUBJECT)])
    names = [
        x509.DNSName("localhost"),
        x509.DNSName(SUBJECT),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    usage = x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=True,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(authority, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return pem, secret


def ensure_certificate(directory: Path) -> tuple[Path, Path]:
    """Paths of certificate and key in ``directory``, written if they are not there yet."""
    certificate, key = directory / "host.pem", directory / "host.key"
    if not (certificate.exists() and key.exists()):
        pem, secret = _made()
        key.touch(mode=0o600)
        key.write_bytes(secret)
        certificate.write_bytes(pem)
    return certificate, key


def fingerprint_sha256(certificate: Path) -> str:
    """Lower-case hex of the SHA-256 of the certificate's DER form."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()


def server_context(certificate: Path, key: Path, *, tls13: bool) -> ssl.SSLContext:
    """TLS as a host speaks it: 1.2 with two ciphers, 1.3 only on request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not tls13:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.load_cert_chain(certificate, key)
    return context
