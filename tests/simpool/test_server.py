"""The HTTP server's manners: routing by prefix, error pages, TLS as a host speaks it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from xobackup.simpool import SimPool
from xobackup.simpool.http.certificate import fingerprint_sha256
from xotest.simclient import SimClient


@pytest.mark.parametrize("path", ["/jsonrpc", "/jsonrpc/", "/jsonrpcXYZ", "/jsonrpc/deeper"])
def test_the_longest_prefix_wins_without_regard_to_segments(path: str, client: SimClient) -> None:
    body = b'{"jsonrpc":"2.0","method":"system.listMethods","id":1}'
    headers = {"Content-Length": str(len(body)), "Connection": "close"}
    assert client.exchange("POST", path, {}, headers, body).status == 200


def test_a_path_without_handler_is_forbidden(client: SimClient) -> None:
    answer = client.exchange("PUT", "/nothing", {}, {"Content-Length": "0"})
    assert answer.status_line == "HTTP/1.1 403 Forbidden"
    assert answer.header("content-type") == "text/html"


@pytest.mark.parametrize("method", ["HEAD", "DELETE", "PATCH", "BREW"])
def test_a_method_without_table_is_501(method: str, client: SimClient) -> None:
    assert client.exchange(method, "/", {}, {}).status_line == "HTTP/1.1 501 Method not implemented"


def test_the_front_page_needs_no_session(client: SimClient) -> None:
    answer = client.send_raw(b"GET / HTTP/1.0\r\n\r\n")
    assert answer.status == 200 and b"pool" in answer.body
    assert client.send_raw(b"GET /missing.html HTTP/1.0\r\n\r\n").status == 404


def test_cors_preflight_is_answered(client: SimClient) -> None:
    answer = client.exchange("OPTIONS", "/anything", {}, {})
    assert answer.status == 200
    assert answer.header("Access-Control-Allow-Methods") == "PUT"


@pytest.mark.parametrize("line", [b"nonsense\r\n\r\n", b"GET /\r\n\r\n", b"GET / SPDY/3 x\r\n\r\n"])
def test_what_is_no_http_is_400(line: bytes, client: SimClient) -> None:
    assert client.send_raw(line).status == 400


def test_too_many_header_bytes_are_431(client: SimClient) -> None:
    headers = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(80))
    assert client.send_raw(b"GET / HTTP/1.1\r\n" + headers + b"\r\n").status == 431


def test_tls_is_1_2_with_an_ecdhe_rsa_cipher_and_the_announced_certificate(pool: SimPool, client: SimClient) -> None:
    with client.open_socket() as sock:
        assert isinstance(sock, ssl.SSLSocket)
        cipher, version, _ = sock.cipher() or ("", "", 0)
        assert version == "TLSv1.2" and cipher.startswith("ECDHE-RSA-AES256-GCM")
        der = sock.getpeercert(binary_form=True)
    assert der == ssl.PEM_cert_to_DER_cert(pool.ca_pem_path.read_text())
    assert fingerprint_sha256(pool.ca_pem_path) == pool.fingerprint_sha256


def test_plain_http_on_request(tmp_path: Path) -> None:
    with SimPool.start(tmp_path, tls=False) as pool, SimClient(pool) as client:
        assert pool.url.startswith("http://")
        assert client.call("pool.get_all") == [pool.toolstack.pool]


def test_a_client_that_hangs_does_not_keep_the_pool_from_closing(tmp_path: Path) -> None:
    pool = SimPool.start(tmp_path)
    with socket.create_connection((pool.server.address, pool.server.port)), SimClient(pool):
        pool.close()


def test_half_a_handshake_harms_nobody(pool: SimPool, client: SimClient) -> None:
    with socket.create_connection((pool.server.address, pool.server.port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert client.call("pool.get_all")


def test_a_certificate_survives_reopening(tmp_path: Path) -> None:
    with SimPool.start(tmp_path) as first:
        before = first.fingerprint_sha256
    with SimPool.start(tmp_path) as again:
        assert again.fingerprint_sha256 == before
