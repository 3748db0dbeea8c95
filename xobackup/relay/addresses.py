"""Addresses of relays, as people write them."""

from __future__ import annotations


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port``; ``ValueError`` for anything else."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{address!r}: expected host:port")
    return host, int(port)


def joined(host: str, port: int) -> str:
    """The inverse."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
