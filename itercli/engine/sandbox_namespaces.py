"""Linux namespaces for the sandbox server: a private root, no network, own process ids.

Standard library only; imported by `sandbox_server` outside the package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Iterable

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUTS = 0x20000, 0x08000000, 0x04000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_NOATIME, MS_NODIRATIME, MS_REC, MS_PRIVATE, MS_RELATIME = 1024, 2048, 16384, 1 << 18, 1 << 21
ST_RELATIME = 4096
SYS_MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MNT_DETACH = 442, -100, 0x8000, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
INNER_ID = 1000  # not 0: a program executed under it has no capabilities in the namespace
NOBODY = 65534

# What every job sees, read-only. Not /etc, /home, /root, /proc, /sys, /run, /var.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", *DEVICES)
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl")

libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def prctl(option: int, value: int) -> None:
    """prctl(2) where there is one; failure is ignored, these are second lines of defence."""
    if libc is not None:
        libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def enter(readable: list[str], writable: str, *, network: bool) -> tuple[int, int]:
    """Fork into new namespaces: the child goes on as process 1 of them.

    Returns:
        0 in the child, the child's id in the parent; and the guests' user id outside.

    Args:
        readable: Folders and files to show read-only besides the system's programs.
        writable: The one folder that jobs may write to.
        network: Whether jobs share the host's network.

    Raises:
        OSError: The system does not let us; in the parent or in the child.
    """
    assert libc is not None
    guest = _unshare_user() if os.geteuid() else _unshare_user_as_root()
    child = os.fork()
    if child:
        return child, guest
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    kinds = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (0 if network else CLONE_NEWNET)
    _check(libc.unshare(kinds), "unshare mount and network namespaces")
    mask = os.umask(0o022)  # the folders of the new root are for guests to pass through
    _change_root(readable, writable, network)
    os.umask(mask)
    return 0, guest


def _unshare_user() -> int:
    """Enter a user namespace that knows us alone; returns the guests' user id outside."""
    assert libc is not None
    uid, gid = os.geteuid(), os.getegid()
    _check(libc.unshare(CLONE_NEWUSER | CLONE_NEWPID), "unshare user namespace")
    with contextlib.suppress(FileNotFoundError), open("/proc/self/setgroups", "w") as file:
        file.write("deny")
    for name, outer in (("uid_map", uid), ("gid_map", gid)):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(f"{INNER_ID} {outer} 1")
    return uid


def _unshare_user_as_root() -> int:
    """As `_unshare_user`, but the guests are nobody: root's files and free choice are not theirs.

    The kernel also does not count root's processes against RLIMIT_NPROC, but nobody's.
    """
    assert libc is not None
    ready, go = os.pipe()
    us = os.getpid()
    helper = os.fork()
    if helper == 0:  # two ids can only be mapped from outside
        try:
            os.close(go)
            os.read(ready, 1)
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{us}/{name}", "w") as file:
                    file.write(f"0 0 1\n{INNER_ID} {NOBODY} 1\n")
            os._exit(0)
        finally:
            os._exit(1)
    os.close(ready)
    try:
        _check(libc.unshare(CLONE_NEWUSER | CLONE_NEWPID), "unshare user namespace")
    finally:
        os.close(go)
        status = os.waitpid(helper, 0)[1]
    if status:
        raise PermissionError("root may not map users here (no CAP_SETUID)")
    return NOBODY


def show_only(folder: str, scratch: str) -> None:
    """In a guest-to-be: of the scratch folder only `folder` stays to be seen, of System V IPC nothing.

    Guests of one program share a user, so without it one could change what another works on.
    """
    assert libc is not None
    if folder == scratch:  # a server of its own
        return
    _check(libc.unshare(CLONE_NEWNS | CLONE_NEWIPC), "unshare mount and IPC namespaces")
    os.chdir(folder)
    _mount("itercli", scratch, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    mask = os.umask(0o022)
    os.makedirs(folder)
    os.umask(mask)
    _mount(".", folder, "", MS_BIND)  # "." is still the folder that the new mount covers
    _mount("", scratch, "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    os.chdir(folder)


def become_guest() -> None:
    """In a child of a root server: give up root. Others are what they should be already."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(INNER_ID)
        os.setuid(INNER_ID)


def shown(files: Iterable[str], readable: Iterable[str]) -> list[str]:
    """What is there of the system's programs, of `files` and of `readable`, outer folders first."""
    # The name given and what it leads to: a program may be asked for by either.
    extra = {path(p) for p in readable for path in (os.path.abspath, os.path.realpath)}
    system = tuple(s + "/" for s in SYSTEM)
    paths = [*SYSTEM, *files, *(p for p in sorted(extra, key=len) if not p.startswith(system))]
    return [p for p in dict.fromkeys(paths) if os.path.lexists(p)]


def _change_root(readable: list[str], writable: str, network: bool) -> None:
    assert libc is not None
    _mount("", "/", "", MS_REC | MS_PRIVATE)
    paths = shown((*SYSTEM_FILES, *(NETWORK_FILES if network else ())), readable)
    # The new root covers /tmp, so what lies below it is reached through open handles.
    handles = {p: os.open(p, os.O_PATH | os.O_NOFOLLOW) for p in paths}
    scratch = os.open(writable, os.O_PATH)
    root = "/tmp"  # only a mount point
    _mount("itercli", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755")
    for path, handle in handles.items():
        _show(handle, path, root, writable=False)
    os.makedirs(root + "/tmp", exist_ok=True)
    _show(scratch, writable, root, writable=True)
    os.chdir(root)
    _check(libc.pivot_root(b".", b"."), "pivot_root")
    _check(libc.umount2(b".", MNT_DETACH), "umount")
    os.chdir("/")
    _mount("", "/", "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    for handle in (scratch, *handles.values()):
        os.close(handle)


def _show(handle: int, path: str, root: str, *, writable: bool) -> None:
    """Bind what `handle` refers to at `path` under `root`, with all that is mounted below it."""
    assert libc is not None
    target, source = root + path, f"/proc/self/fd/{handle}"
    if os.path.lexists(target) and not os.path.isdir(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    link = os.readlink("", dir_fd=handle) if _is_link(handle) else None
    if link is not None:
        os.symlink(link, target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        open(target, "ab").close()
    _mount(source, target, "", MS_BIND | MS_REC)
    if writable:
        return
    attributes = struct.pack("QQQQ", MS_RDONLY, 0, 0, 0)
    flags = ctypes.c_uint(AT_RECURSIVE)
    if libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, target.encode(), flags, attributes, len(attributes)) == 0:
        return
    # Kernels before 5.12. Flags that the mount already has are locked in here and must be repeated.
    have = os.fstatvfs(handle).f_flag
    keep = have & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME)
    keep |= MS_RELATIME if have & ST_RELATIME else 0
    _mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY | keep)


def _is_link(handle: int) -> bool:
    return os.fstat(handle).st_mode & 0o170000 == 0o120000


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    assert libc is not None
    done = libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(done, f"mount {target}")
