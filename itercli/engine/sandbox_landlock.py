"""Linux Landlock for guests without namespaces: a kernel feature that needs no rights at all.

A guest under it reaches the files that it is shown, connects to no TCP port (kernel 6.7),
signals nothing outside (6.12), and cannot trace another process or open its descriptors (5.13).

Standard library only; imported by `sandbox_server` outside the package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable

libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE  # what a rule for a file may allow
BIND_TCP_AND_CONNECT_TCP = 3
ABSTRACT_UNIX_SOCKETS_AND_SIGNALS = 3
# All rights of files that a version of the interface knows: 1, 2 (+ REFER), 3 (+ TRUNCATE), 5 (+ IOCTL_DEV).
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}


def version() -> int:
    """The kernel's version of the interface; 0 if there is none."""
    if libc is None:
        return 0
    return max(int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(VERSION))), 0)


def rules(readable: Iterable[str], writable: str, devices: Iterable[str], *, network: bool) -> int:
    """A descriptor of what `confine` will allow; -1 if there is no Landlock.

    Args:
        readable: Files and folders to read and execute; what does not exist is left out.
        writable: The one folder to change.
        devices: Device files to write to as well.
        network: Leave TCP alone.

    Raises:
        OSError: The kernel refuses.
    """
    known = version()
    if not known:
        return -1
    rights = RIGHTS[min(known, max(RIGHTS))]
    net = 0 if network or known < 4 else BIND_TCP_AND_CONNECT_TCP
    scoped = ABSTRACT_UNIX_SOCKETS_AND_SIGNALS if known >= 6 else 0
    attributes = struct.pack("QQQ", rights, net, scoped)[: 8 if known < 4 else 16 if known < 6 else 24]
    ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint(0))
    for path in readable:
        with contextlib.suppress(FileNotFoundError):
            _allow(ruleset, path, rights & READ)
    for path in devices:
        with contextlib.suppress(FileNotFoundError):
            _allow(ruleset, path, rights & (READ | WRITE_FILE | TRUNCATE))
    _allow(ruleset, writable, rights)
    return ruleset


def confine(ruleset: int) -> None:
    """Confine this process, and all that it starts, for good; no_new_privs must be set.

    Args:
        ruleset: What `rules` gave; closed.

    Raises:
        OSError: The kernel refuses.
    """
    if ruleset >= 0:
        _call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= OF_FILES
        rule = struct.pack("=Qi", rights, handle)
        _call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(PATH_BENEATH), rule, ctypes.c_uint(0))
    finally:
        os.close(handle)


def _call(number: int, *arguments: object) -> int:
    assert libc is not None
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"landlock: {os.strerror(code)}")
    return result
