"""Remotes: the same URL without its credentials, which get keys of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from remotes.errors import RemoteError
from remotes.url import parse_url
from xobackup.config.buckets import bucket_url
from xobackup.config.from_xo.credentials import Held
from xobackup.config.from_xo.naming import Names, slug
from xobackup.config.from_xo.records import OBFUSCATED, XoRemote
from xobackup.config.from_xo.remarks import Level, Remark, plain, quoted
from xobackup.config.from_xo.remote_urls import BadUrl, XoUrl, parse_xo_url
from xobackup.config.from_xo.sections import Section, bare, problems_of
from xobackup.config.places import RemoteSection

MOUNT_POINTS = "/mnt/xobackup"
"""Where shares that we cannot mount ourselves are expected."""
_TRANSLATED = frozenset({"useVhdDirectory", "encryptionKey"})
_DIRECTORIES = "useVhdDirectory=true"


class Untranslatable(Exception):
    """Why there is no remote of ours for one of theirs."""


@dataclass(slots=True, kw_only=True)
class Draft:
    """A remote in the making."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)
    told: list[tuple[Level, str]] = field(default_factory=list)
    mount_credentials: str = ""
    """Content of a file for ``mount -o credentials=``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    sections: list[Section]
    names: Mapping[str, str]
    """Our name by Xen Orchestra's id."""
    remarks: list[Remark]
    mount_credentials: Mapping[str, str] = field(repr=False)
    """By our name."""


def translate_remotes(remotes: tuple[XoRemote, ...], *, with_disabled: bool) -> Translated:
    """A remote for every remote whose storage we know."""
    unique = Names()
    sections: list[Section] = []
    names: dict[str, str] = {}
    remarks: list[Remark] = []
    credentials: dict[str, str] = {}
    for remote in remotes:
        about = f"remote {quoted(remote.name)}"
        if not remote.enabled and not with_disabled:
            text = "left out, it is disabled in Xen Orchestra (--with-disabled takes it)"
            remarks.append(Remark(level=Level.NOTE, about=about, text=text))
            continue
        if remote.id in names:
            remarks.append(Remark(level=Level.REFUSED, about=about, text="its id is that of another remote"))
            continue
        draft = Draft(name=unique.unique(slug(remote.name, otherwise="remote")))
        try:
            _translate(remote, draft)
        except (Untranslatable, BadUrl) as error:
            remarks.append(Remark(level=Level.REFUSED, about=about, text=str(error)))
            continue
        names[remote.id] = draft.name
        if draft.mount_credentials:
            credentials[draft.name] = draft.mount_credentials
        remarks += [Remark(level=level, about=about, text=text) for level, text in draft.told]
        comments = [f"Xen Orchestra: remote {quoted(remote.name)}, id {remote.id}"]
        comments += [text for _, text in draft.told]
        sections.append(Section(kind="remotes", name=draft.name, values=draft.values, comments=tuple(comments)))
    return Translated(sections=sections, names=names, remarks=remarks, mount_credentials=credentials)


def _translate(remote: XoRemote, draft: Draft) -> None:
    url = parse_xo_url(remote.url)
    match url.scheme:
        case "file":
            _file(url, draft)
        case "nfs":
            _nfs(url, remote, draft)
        case "smb":
            _smb(url, remote, draft)
        case "s3" | "s3+http":
            _s3(url, draft)
        case _:
            raise Untranslatable(f"{url.scheme}: Azure storage is not supported yet")
    key = url.options.get("encryptionKey")
    if key is not None and key is not False:
        draft.values["encryption"] = {"key": _held(key)}
    for name in sorted(set(url.options) - _TRANSLATED - ({"allowUnauthorized"} if url.scheme[:2] == "s3" else set())):
        draft.told.append((Level.DIFFERS, f"option {plain(name, most=60)!a} of its URL: not translated"))
    if remote.proxy:
        text = "it belongs to a proxy: its path or address is as seen from there, and xobackup works from here"
        draft.told.append((Level.DIFFERS, text))
    _check(draft)


def _check(draft: Draft) -> None:
    """Whatever the loader and ``config check`` would refuse is refused here."""
    if problems := problems_of(RemoteSection, draft.values):
        raise Untranslatable("; ".join(problems))
    section = RemoteSection.model_validate(bare(draft.values))
    try:
        parse_url(bucket_url(section.url, section, "url", with_secrets=False))
    except RemoteError as error:
        raise Untranslatable(plain(error)) from None


def _file(url: XoUrl, draft: Draft) -> None:
    draft.values["url"] = _with("file://" + quote(url.path), url)
    draft.told.append((Level.NOTE, "a path of Xen Orchestra's machine: the same storage must be there on this one"))


def _nfs(url: XoUrl, remote: XoRemote, draft: Draft) -> None:
    port = f":{url.port}" if url.port else ""
    options = []
    if remote.options.strip():
        words = ",".join(remote.options.split())
        options.append("options=" + quote(json.dumps(words), safe=""))
    draft.values["url"] = _with(f"nfs://{url.host}{port}:{quote(url.path)}", url, *options)


def _smb(url: XoUrl, remote: XoRemote, draft: Draft) -> None:
    """We do not mount SMB; the URL demands that somebody did."""
    if not url.share:
        raise Untranslatable("its URL names no share")
    point = f"{MOUNT_POINTS}/{draft.name}"
    path = f"{point}/{url.path}" if url.path else point
    mounted = "mounted=" + quote(json.dumps(point), safe="/")
    draft.values["url"] = _with("file://" + quote(path), url, mounted)
    source = f"//{plain(url.host)}/{plain(url.share)}"
    shown = [word for word in remote.options.replace(",", " ").split() if "pass" not in word.lower()]
    options = f" (its options there: {plain(','.join(shown))})" if shown else ""
    text = f"SMB is not mounted by xobackup: mount {source} at {point}{options}; until then the remote is refused"
    draft.told.append((Level.DIFFERS, text))
    if url.password != OBFUSCATED:
        lines = {"username": url.username, "password": url.password, "domain": url.domain}
        draft.mount_credentials = "".join(f"{key}={value}\n" for key, value in lines.items() if "\n" not in value)


def _s3(url: XoUrl, draft: Draft) -> None:
    draft.values["url"] = f"{url.scheme}://{url.host}/{quote(url.path)}"
    if url.username:
        draft.values["credentials"] = {"access_key": url.username, "secret_key": _held(url.password)}
    if url.region:
        draft.values["region"] = url.region
    if url.options.get("allowUnauthorized") is True and url.scheme == "s3":
        draft.values["tls"] = {"verify": False}


def _with(url: str, parsed: XoUrl, *options: str) -> str:
    """``url`` with its options; disks as directories stay an option of the URL, as Xen Orchestra has it."""
    given = [*([_DIRECTORIES] if parsed.options.get("useVhdDirectory") is True else []), *options]
    return url + ("?" + "&".join(given) if given else "")


def _held(value: Any) -> Held:
    return Held(value=value if isinstance(value, str) and value and value != OBFUSCATED else None)
