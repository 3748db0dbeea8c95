"""After the story: the service follows the demo's job for as long as somebody looks."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xobackup.cli.output import Output
    from xobackup.simpool import SimPool

PORT = 8480
USER, PASSWORD = "demo", "demo-demo"


def somebody_looks() -> bool:
    """Only on a terminal: elsewhere nobody would end it."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def serve_demo(output: Output, place: Path, url: str, pool: SimPool) -> None:
    """Serve until Ctrl-C."""
    from xobackup.cli.serve import serve

    path = place / "xobackup.toml"
    port = _free_port()
    path.write_text(configuration(place, url, pool, port))
    output.say(f"\nThe service follows the demo's job now, every two minutes. Look at it: http://127.0.0.1:{port}")
    output.say(f"Log in as {USER} with the password {PASSWORD} to order a run. Its configuration: {path}")
    output.say("Ctrl-C ends it and removes everything.", style="bold")
    serve(config=path, as_json=False)


def configuration(place: Path, url: str, pool: SimPool, port: int) -> str:
    """What an operator would have written."""
    from xobackup.web.access import hash_password

    return f"""state_directory = "{place / "state"}"
[pools.simulated]
url = "{pool.url}"
username = "{pool.username}"
password = "{pool.password}"
tls = {{ fingerprint = "{pool.fingerprint_sha256}" }}
[remotes.demo]
url = "{url}"
[jobs.demo]
pool = "simulated"
remotes = ["demo"]
vms.include = [{{ tag = "production" }}]
retention = 3
rpo = "10m"
chain_wait_s = 60
[schedules.often]
jobs = ["demo"]
every = "2m"
[web]
listen = "127.0.0.1:{port}"
[web.users.{USER}]
role = "admin"
password_hash = "{hash_password(PASSWORD)}"
"""


def _free_port() -> int:
    """The page's usual one, or another when that is taken."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            probe.close()
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                return int(other.getsockname()[1])
        return PORT
