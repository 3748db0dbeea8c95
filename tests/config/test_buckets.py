"""What the configuration says of a bucket: complete, of one kind, and never with a secret where it could be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from remotes.url import parse_url
from xobackup.cli.jobs import remote_target
from xobackup.config.errors import ConfigError
from xobackup.config.load import load_configuration
from xobackup.repository.lock_rule import LockRule


def load(tmp_path: Path, *lines: str):
    path = tmp_path / "xobackup.toml"
    path.write_text("\n".join([f'state_directory = "{tmp_path}"', "[remotes.offsite]", *lines]))
    return load_configuration(path)


def test_everything_beside_the_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("S3C/RET+@\n")
    (tmp_path / "secret").chmod(0o600)
    monkeypatch.setenv("BACKUP_KEY", "KEY/ID")
    configuration = load(
        tmp_path,
        'url = "s3://store.lan:9000/bucket/dir#old"',
        f'credentials = {{ access_key = {{ env = "BACKUP_KEY" }}, secret_key = {{ file = "{tmp_path}/secret" }},'
        ' session_token = { command = ["echo", "T0KEN"] } }',
        'region = "eu-1"',
        'tls = { ca = "/etc/ca.pem" }',
        "path_style = false",
        "parallel = 4",
    )
    target = remote_target(configuration, "offsite")
    assert "S3C" not in repr(target) and "S3C" not in repr(configuration)
    found = parse_url(target.url).s3
    assert found is not None
    assert (found.access_key, found.secret_key, found.session_token) == ("KEY/ID", "S3C/RET+@", "T0KEN")
    assert (found.region, found.ca, found.path_style, found.parallel) == ("eu-1", "/etc/ca.pem", False, 4)
    shown = remote_target(configuration, "offsite", with_secrets=False).url
    assert "KEY" not in shown and "T0KEN" not in shown


def test_a_profile_instead_of_keys(tmp_path: Path) -> None:
    lines = ('url = "s3://s3.amazonaws.com/bucket"', 'credentials = { profile = "backup" }', "tls.verify = false")
    found = parse_url(remote_target(load(tmp_path, *lines), "offsite").url).s3
    assert found is not None and (found.profile, found.access_key, found.verify) == ("backup", "", False)


def test_a_lock_and_how_long_a_chain_may_grow_under_it(tmp_path: Path) -> None:
    lines = ('url = "s3://h/bucket"', 'lock = { mode = "governance", days = 30 }')
    assert remote_target(load(tmp_path, *lines), "offsite").storage.lock == LockRule(
        mode="governance", days=30, chain_days=7
    )


def test_a_url_alone_stays_as_it_is(tmp_path: Path) -> None:
    url = "s3://KEY:SECRET@host/bucket?useVhdDirectory=true#region"
    assert remote_target(load(tmp_path, f'url = "{url}"'), "offsite").url == url


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (('url = "/srv"', 'region = "x"'), "region: only for s3: URLs"),
        (('url = "s3://h/bucket"', 'credentials = { access_key = "K" }'), "only one of them"),
        (('url = "s3://h/bucket"', "credentials = { }"), "access_key and secret_key, or profile"),
        (
            ('url = "s3://h/bucket"', 'credentials = { access_key = "K", secret_key = "S", profile = "p" }'),
            "or profile",
        ),
        (('url = "s3://h/bucket"', 'credentials = { profile = "p", session_token = "t" }'), "belongs to"),
        (('url = "s3://K:S@h/bucket"', 'credentials = { profile = "p" }'), "take them out"),
        (('url = "s3+http://h/bucket"', "tls = { verify = false }"), "which has none"),
        (('url = "s3://h/bucket"', 'tls = { ca = "/x", verify = false }'), "at most one"),
        (('url = "s3://h/bucket"', "parallel = 0"), "parallel"),
        (('url = "/srv"', 'lock = { mode = "compliance", days = 9 }'), "which only buckets have"),
        (('url = "s3://h/bucket"', 'lock = { mode = "immutable", days = 9 }'), "for a bucket"),
        (('url = "s3://h/bucket"', 'lock = { mode = "governance" }'), "days"),
        (('url = "s3://h/bucket"', 'lock = { mode = "governance", days = 0 }'), "days"),
        (('url = "s3://h/bucket"', 'lock = { mode = "governance", days = 9, chain_days = 0.5 }'), "chain_days"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, lines: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, *lines)
