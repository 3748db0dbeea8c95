"""A Linux kernel of our own, for what the machine's kernel lacks: Debian's cloud kernel under emulation.

Its ``/`` is this machine's, read-only below an overlay in memory; only the shared directory is written through. Slow
(python starts in four seconds), and real: NFS clients and servers, device mapper. Its only interface is the loopback,
with a second address, without which ``getaddrinfo`` does not even know 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xobackup.cli.errors import NotThere

MODULES = ("virtiofs", "virtio_pci", "virtio_blk", "overlay")
MEMORY_MIB = 2048
TICK_S = 0.2
VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd")
PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "modprobe": "kmod",
}
INIT = r"""#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc p /proc; $B mount -t sysfs s /sys; $B mount -t devtmpfs d /dev
for m in /lib/modules/*.ko; do $B insmod $m; done
$B mount -t virtiofs -o ro hostfs /newroot || { echo NO-ROOT; $B poweroff -f; }
$B mount -t tmpfs -o size=90% t /ov; $B mkdir /ov/u /ov/w /ov/m
$B mount -t overlay -o lowerdir=/newroot,upperdir=/ov/u,workdir=/ov/w o /ov/m; R=/ov/m
S=$($B sed -n 's/.*share=\([^ ]*\).*/\1/p' /proc/cmdline)
$B mount -t proc p $R/proc; $B mount -t sysfs s $R/sys; $B mount -t devtmpfs d $R/dev
$B mkdir -p $R/dev/pts $R/dev/shm; $B mount -t devpts p $R/dev/pts; $B mount -t tmpfs t $R/dev/shm
$B mount -t tmpfs t $R/run; $B mkdir -p $R$S; $B mount -t virtiofs share $R$S || echo NO-SHARE
$B ifconfig lo 127.0.0.1 up; $B ip addr add 192.0.2.1/32 dev lo
$B chroot $R /bin/bash $S/command > $R$S/output 2>&1; echo $? > $R$S/status
$B sync; $B poweroff -f
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the command in the machine ended; ``console`` is what the kernel said, when it did not."""

    status: int | None
    output: str
    console: str


def installed(program: str, package: str) -> str:
    """The path of a program; :class:`NotThere` with the command that installs it when it is missing."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        raise NotThere(f"{program} is missing", hint=f"apt-get install --no-install-recommends {package}")
    return found


def run_in_machine(
    command: Sequence[str],
    *,
    share: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    tell: Callable[[str], object] = lambda _text: None,
) -> Ended:
    """Boot, run ``command`` as root, power off. ``share`` is the one directory both sides see and write; ``tell``
    hears what the command says while it runs."""
    qemu, _, _, _ = (installed(program, package) for program, package in PACKAGES.items())
    kernel = _kernel()
    exports = "".join(f"export {name}={_quoted(value)}\n" for name, value in environment.items())
    (share / "command").write_text(f"cd /\n{exports}exec {' '.join(map(_quoted, command))}\n")
    with tempfile.TemporaryDirectory(prefix="xobackup-machine-") as temporary:
        work = Path(temporary)
        initrd = _initrd(work, kernel)
        with _shared(work, "root", Path("/")) as root, _shared(work, "share", share) as shared:
            arguments = [
                qemu, "-machine", "q35,accel=tcg,memory-backend=mem", "-cpu", "max", "-smp", "2",
                "-m", str(MEMORY_MIB), "-nographic", "-no-reboot", "-nic", "none",
                "-object", f"memory-backend-memfd,id=mem,size={MEMORY_MIB}M,share=on",
                "-kernel", f"/boot/vmlinuz-{kernel}", "-initrd", str(initrd),
                "-append", f"console=ttyS0 quiet panic=-1 mitigations=off share={share}",
                "-chardev", f"socket,id=c0,path={root}", "-device", "vhost-user-fs-pci,chardev=c0,tag=hostfs",
                "-chardev", f"socket,id=c1,path={shared}", "-device", "vhost-user-fs-pci,chardev=c1,tag=share",
            ]  # fmt: skip
            _until_off(arguments, work / "console", share / "output", timeout_s=timeout_s, tell=tell)
        console = (work / "console").read_text(errors="replace")[-4000:]
    status, output = share / "status", share / "output"
    return Ended(
        status=int(status.read_text()) if status.exists() else None,
        output=output.read_text(errors="replace") if output.exists() else "",
        console=console,
    )


def _until_off(
    arguments: Sequence[str], console: Path, output: Path, *, timeout_s: float, tell: Callable[[str], object]
) -> None:
    """Run the emulator until it ends; :class:`subprocess.TimeoutExpired`, and its end, after ``timeout_s``."""
    deadline_s, told = time.monotonic() + timeout_s, 0
    with console.open("wb") as log:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while process.poll() is None:
                if time.monotonic() > deadline_s:
                    raise subprocess.TimeoutExpired(arguments[0], timeout_s)
                told = _tell(output, told, tell)
                time.sleep(TICK_S)
        finally:
            process.kill()
            process.wait()
    _tell(output, told, tell)


def _tell(output: Path, told: int, tell: Callable[[str], object]) -> int:
    """Pass on what is new; returns how many bytes were passed on so far."""
    if not output.exists():
        return told
    with output.open("rb") as file:
        file.seek(told)
        new = file.read()
    whole = new[: new.rfind(b"\n") + 1]
    if whole:
        tell(whole.decode(errors="replace"))
    return told + len(whole)


def _kernel() -> str:
    if os.geteuid() != 0:
        raise NotThere("sharing the root with a machine of its own needs root", hint="run it as root")
    found = sorted(Path("/boot").glob("vmlinuz-*cloud*"))
    if not found:
        raise NotThere(
            "no kernel for a machine of its own is there",
            hint="apt-get install --no-install-recommends linux-image-cloud-amd64",
        )
    return found[-1].name.removeprefix("vmlinuz-")


def _initrd(work: Path, kernel: str) -> Path:
    """busybox, the modules that the root needs, and :data:`INIT`."""
    busybox, cpio, modprobe = (installed(name, PACKAGES[name]) for name in ("busybox", "cpio", "modprobe"))
    tree = work / "tree"
    for name in ("bin", "proc", "sys", "dev", "newroot", "ov", "lib/modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin" / "busybox")
    modules: dict[str, None] = {}
    for name in MODULES:
        shown = subprocess.run(
            [modprobe, "-S", kernel, "--show-depends", name], capture_output=True, text=True, check=True
        ).stdout
        modules |= dict.fromkeys(re.findall(r"^insmod (\S+)", shown, re.MULTILINE))
    for number, module in enumerate(modules):
        shutil.copy(module, tree / "lib" / "modules" / f"{number:03}_{Path(module).name}")
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        [cpio, "-o", "-H", "newc", "--quiet"], cwd=tree, input=names.encode(), capture_output=True, check=True
    )
    (work / "initrd").write_bytes(packed.stdout)
    return work / "initrd"


@contextlib.contextmanager
def _shared(work: Path, name: str, directory: Path) -> Iterator[Path]:
    """A directory served to the guest; the socket it asks at."""
    found = next((path for path in VIRTIOFSD if Path(path).exists()), None)
    program = found or installed("virtiofsd", "qemu-system-common")
    socket = work / f"{name}.socket"
    command = [program, f"--socket-path={socket}", "-o", f"source={directory}", "-o", "sandbox=chroot", "-f"]
    with (work / f"{name}.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            deadline = time.monotonic() + 20
            while not socket.exists():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise NotThere(
                        f"{program} does not start", hint=(work / f"{name}.log").read_text()[-500:] or None
                    )
                time.sleep(0.02)
            yield socket
        finally:
            server.kill()  # it keeps nothing of its own, and a signal it may handle may also find it not listening


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
