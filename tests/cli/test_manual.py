"""Manual pages and completions say what the commands say, because they are made of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from xobackup.cli.main import app
from xobackup.cli.manual import SHELLS, options_of, pages, roff
from xotest.site import command, environment, xobackup

ADVICE = "groff is missing: apt-get install groff-base"


def test_every_command_has_a_page_with_all_its_options(tmp_path: Path) -> None:
    import typer

    said = xobackup("manual", tmp_path)
    assert said.code == 0 and said.out == f"{len(pages())} pages in {tmp_path}\n"
    root = typer.main.get_command(app)
    shown = {name: one for name, one in root.commands.items() if not one.hidden}  # type: ignore[attr-defined]
    assert len(shown) > 30
    for name, one in shown.items():
        page = (tmp_path / f"xobackup-{name}.1").read_text()
        for option in options_of(one):
            assert all(roff(word) in page for word in option.names) and roff(option.help) in page
    assert "FORMAT" in (tmp_path / "xobackup-run.1").read_text()
    assert (tmp_path / "xobackup-backups-list.1").exists()
    main = (tmp_path / "xobackup.1").read_text()
    assert "XOBACKUP_CONFIG" in main.replace("\\", "") and "143" in main


def test_pages_are_good_roff(tmp_path: Path) -> None:
    for name, text in pages().items():
        assert re.match(r"\.TH ", text), name
        for line in text.splitlines():
            assert not line.startswith("'") and re.match(r"\.(TH|SH|TP|B|BR|ad) ?|[^.]", line), (name, line)
    if shutil.which("groff") is None:
        assert not os.environ.get("CI"), ADVICE
        pytest.skip(ADVICE)
    (tmp_path / "all").write_text("".join(pages().values()))
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", tmp_path / "all"], capture_output=True, text=True, check=True
    )
    assert not done.stderr and "--log-format FORMAT" in re.sub("\x1b\\[[0-9;]*m|.\b", "", done.stdout)


def test_completions_work_in_a_shell(tmp_path: Path) -> None:
    for shell in SHELLS:
        said = xobackup("completion", shell)
        assert said.code == 0 and "_XOBACKUP_COMPLETE" in said.out
    assert "found 'csh'" in xobackup("completion", "csh").err
    program = tmp_path / "xobackup"
    program.write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(xobackup("completion", "bash").out)
    line = ". ./script; COMP_WORDS=(xobackup res); COMP_CWORD=1; _xobackup_completion xobackup; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"),
    )
    assert done.stdout.split() == ["restore"]
