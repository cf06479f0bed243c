"""Debian and Ubuntu packages, through apt where root or a password-less sudo allows.

A package that cannot be had is never fatal here: what needs it says so itself, and which command
would bring it.
"""

import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from environment.progress import StepFailed, run, say, step

# Installing a server package must start no server: policy-rc.d says so for the time that apt runs.
_INSTALL = """
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\\nexit 101\\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
"""


WANTED = {
    "demo": ("fuse3", "nftables", "zfs-fuse"),
    "test": (
        "bindfs",
        "chromium",
        "clang",
        "faketime",
        "fio",
        "libbpf-dev",
        "libfuse2",
        "libfuse3-dev",
        "postgresql",
        "prometheus",
        "rsyslog",
        "rsyslog-openssl",
        "strace",
    ),
}


def list_wanted(groups: Collection[str]) -> list[str]:
    """Return the packages that *groups* (`demo`, `test`) use and that are not here yet."""
    wanted = {package for group in groups for package in WANTED[group]}
    if has_kernel_zfs():
        wanted.discard("zfs-fuse")
    return sorted(wanted - _installed_of(sorted(wanted)))


def has_kernel_zfs() -> bool:
    """Return whether ZFS is in the kernel, or its tools are here, which exclude zfs-fuse."""
    return Path("/sys/module/zfs").exists() or bool(_installed_of(["zfsutils-linux"]))


def _installed_of(packages: list[str]) -> set[str]:
    dpkg_query = shutil.which("dpkg-query")
    if dpkg_query is None:
        return set()
    query = subprocess.run(
        [dpkg_query, "-W", "-f", "${Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
    )
    lines = (line.split() for line in query.stdout.splitlines())
    return {words[0] for words in lines if words[1:] == ["installed"]}


def install(packages: list[str], why: str) -> list[str]:
    """Install what can be of *packages* and return those that could not be had."""
    if not packages:
        return []
    as_root = find_root_command()
    if as_root is None:
        say(f"packages for {why} are missing; to add them, as root:")
        say(f"  apt-get install {' '.join(packages)}")
        return packages
    try:
        _install_together(as_root, packages)
    except StepFailed:
        return [package for package in packages if not _installs_alone(as_root, package)]
    return []


def find_root_command() -> list[str] | None:
    """Return what to put before a command to run it as root, or None where that cannot be."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True).returncode == 0:
        return [sudo, "-n"]
    return None


def _install_together(as_root: list[str], packages: list[str]) -> None:
    with step(f"Debian packages: {' '.join(packages)}"):
        run([*as_root, "sh", "-c", _INSTALL, "apt", *packages])


def _installs_alone(as_root: list[str], package: str) -> bool:
    try:
        _install_together(as_root, [package])
    except StepFailed as failure:
        say(f"  {package} is not to be had here:\n{failure}")
        return False
    return True
