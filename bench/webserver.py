"""nginx serving one directory over HTTP and TLS on loopback."""

from __future__ import annotations

import contextlib
import datetime
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import program

CONFIG = """
daemon off;
master_process off;
pid {run}/pid;
error_log {run}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    output_buffers 2 1m;
    tcp_nopush on;
    client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/fastcgi;
    uwsgi_temp_path {run}/uwsgi; scgi_temp_path {run}/scgi;
    server {{
        listen 127.0.0.1:{http};
        listen 127.0.0.1:{https} ssl;
        ssl_certificate {run}/cert.pem;
        ssl_certificate_key {run}/key.pem;
        root {root};
    }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """``urls``: ``HTTP`` and ``TLS``."""

    urls: dict[str, str]


@contextlib.contextmanager
def serving(root: Path, run: Path) -> Iterator[Server]:
    """``run`` is a directory for nginx's own files."""
    nginx = program("nginx")
    assert nginx is not None
    run.mkdir(exist_ok=True)
    http, https = _free_port(), _free_port()
    make_certificate(run)
    config = run / "nginx.conf"
    config.write_text(CONFIG.format(run=run, root=root, http=http, https=https))
    process = subprocess.Popen(
        [nginx, "-p", str(run), "-c", str(config), "-e", f"{run}/error.log"], stderr=subprocess.DEVNULL
    )
    try:
        _wait(http, process, run)
        yield Server(urls={"HTTP": f"http://127.0.0.1:{http}", "TLS": f"https://127.0.0.1:{https}"})
    finally:
        process.terminate()
        process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes], run: Path) -> None:
    for _ in range(100):
        if process.poll() is not None:
            raise RuntimeError(f"nginx did not start: {(run / 'error.log').read_text().strip()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("nginx does not answer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificate(directory: Path) -> None:
    """A self-signed one for 127.0.0.1, as a XAPI host has."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
