"""Certificates made for a test: self-signed like a XAPI host's, or expired; with elliptic curve keys (fast)."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate with its key, on disk as PEM."""

    cert_path: Path
    key_path: Path
    sha256: str
    """Of the DER form, lower-case hexadecimal."""


def make_certificate(
    directory: Path,
    *,
    name: str = "host",
    expired: bool = False,
    address: str = "127.0.0.1",
    alternative_names: bool = True,
) -> Certificate:
    """Self-signed for localhost and ``address``; without ``alternative_names`` for its common ``name`` only."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)  # noqa: TID251 - the peer compares it with the real time
    begin, end = (now - timedelta(days=9), now - timedelta(days=2)) if expired else (now, now + timedelta(days=9))
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(days=1))
        .not_valid_after(end)
    )
    if alternative_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    return _written(certificate, key, directory / f"{name}.pem", directory / f"{name}.key")


def make_pki(directory: Path, *, server: str = "localhost") -> Certificate:
    """A CA and a server's certificate signed by it, in files named as qemu expects; returns the server's."""
    now = datetime.now(UTC)  # noqa: TID251 - the peer compares it with the real time
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    built = []
    for subject, public, is_ca in ((issuer, ca_key, True), (_common_name(server), key, False)):
        usage = x509.KeyUsage(not is_ca, False, False, False, False, is_ca, False, False, False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        if not is_ca:
            names = x509.SubjectAlternativeName([x509.DNSName(server)])
            builder = builder.add_extension(names, critical=False)
        built.append(builder.sign(ca_key, hashes.SHA256()))
    _written(built[0], ca_key, directory / "ca-cert.pem", directory / "ca-key.pem")
    return _written(built[1], key, directory / "server-cert.pem", directory / "server-key.pem")


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _written(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, cert_path: Path, key_path: Path
) -> Certificate:
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = serialization.PrivateFormat.TraditionalOpenSSL
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption()))
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Certificate(cert_path=cert_path, key_path=key_path, sha256=hashlib.sha256(der).hexdigest())
