"""The README's tables say what the program does."""

from __future__ import annotations

import re

import typer

from xobackup.cli.exits import MEANINGS, Exit
from xobackup.cli.main import app
from xobackup.config.load import load_configuration
from xotest.site import ROOT

README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    return README.split(f"\n### {title}\n", 1)[1].split("\n#", 1)[0]


def rows(text: str) -> list[tuple[str, str]]:
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", text, flags=re.MULTILINE)
    return [row for row in found if not set(row[0]) <= set("-: ") and row[0] not in ("code", "command")]


def commands(click_command: object, path: tuple[str, ...] = ()) -> dict[str, str]:
    """Every command with the first sentence of its help."""
    found: dict[str, str] = {}
    for name, command in getattr(click_command, "commands", {}).items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            found |= commands(command, (*path, name))
        else:
            found[" ".join((*path, name))] = " ".join((command.help or "").split())
    return found


def test_the_exit_codes_of_the_readme_are_those_of_the_program() -> None:
    assert set(MEANINGS) == set(Exit)
    assert rows(section("Exit codes")) == [(str(int(code)), meaning) for code, meaning in MEANINGS.items()]


def test_the_commands_of_the_readme_are_those_of_the_program() -> None:
    expected = commands(typer.main.get_command(app))
    assert rows(section("Commands")) == [(f"`{name}`", told) for name, told in expected.items()]
    assert {"demo", "doctor", "config check", "backups show", "restore vm", "remote test"} <= set(expected)


def test_every_command_in_the_readmes_examples_exists() -> None:
    known = commands(typer.main.get_command(app))
    blocks = "\n".join(README.split("```")[1::2])
    lines = re.findall(r"^(?:\.venv/bin/)?xobackup ([a-z -]+[a-z])", blocks, flags=re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        assert any(line == name or line.startswith(f"{name} ") for name in known), line


def test_the_configuration_of_the_readme_is_accepted(tmp_path) -> None:
    (toml,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    path = tmp_path / "xobackup.toml"
    path.write_text(toml.replace('"3b0c..."', f'"{"3b" * 32}"'))
    configuration = load_configuration(path)
    assert set(configuration.jobs) == {"nightly"} and configuration.jobs["nightly"].retention == 14
    assert configuration.pools["paris"].tls.fingerprint == "3b" * 32
