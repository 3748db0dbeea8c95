"""A service that runs, and its API as a program uses it."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xobackup.web.tokens import read_tokens
from xotest.site import Site, start, wait_until


@dataclass(frozen=True, slots=True)
class Api:
    """The API with a token."""

    url: str
    token: str

    def __call__(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(f"{self.url}/api/v1{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def read(self, path: str) -> bytes:
        """What is no JSON."""
        request = urllib.request.Request(f"{self.url}/api/v1{path}")
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())

    def done(self, path: str, body: object = None, *, state: str = "done") -> Any:
        """Order it, wait for it, give its result."""
        made = self("POST", path, body)
        wait_until(lambda: self("GET", f"/operations/{made['id']}")["ended_at"] is not None)
        found = self("GET", f"/operations/{made['id']}")
        assert found["state"] == state, found
        return found

    def ended(self, operation: str) -> Any:
        """Wait for it; the operation."""
        wait_until(lambda: self("GET", f"/operations/{operation}")["ended_at"] is not None)
        return self("GET", f"/operations/{operation}")


@dataclass(slots=True)
class Served:
    """A service of a site."""

    site: Site
    process: subprocess.Popen[str]
    url: str

    def api(self, role: str) -> Api:
        """With a new token."""
        known = len(read_tokens(self.site.state))
        name = f"ci-{known}" if known else "ci"
        return Api(self.url, self.site.xobackup("web", "token", "create", name, "--role", role).out.strip())


@contextmanager
def served(site: Site, log: Path, **options: Any) -> Iterator[Served]:
    """``serve`` until the block ends."""
    with log.open("w") as out:
        process = start("serve", "--json", "-c", site.config, stdout=out, **options)
    try:
        wait_until(lambda: "status page at" in log.read_text())
        records = [json.loads(line) for line in log.read_text().splitlines()]
        yield Served(site, process, next(str(record["url"]) for record in records if record.get("url")))
    finally:
        process.terminate()
        process.communicate(timeout=30)
