"""A guest between fork and exec: its descriptors, limits and rights.

Standard library only; imported by `sandbox_server` outside the package.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import sys
from typing import Any

if __package__:
    from itercli.engine import sandbox_landlock as landlock
    from itercli.engine import sandbox_namespaces as spaces
else:
    import sandbox_landlock as landlock  # type: ignore[no-redef]
    import sandbox_namespaces as spaces  # type: ignore[no-redef]

LINUX = sys.platform == "linux"
FIRST_GUEST = 0x70000000  # above what distributions, systemd and container tools give away


def unprivileged() -> int:
    """The user id of guests without namespaces: ours, or for root one that nothing else runs as.

    Raises:
        PermissionError: We are root and cannot be anybody else here.
    """
    if os.geteuid() and os.getuid():
        return os.geteuid()
    # A container may know none but a few ids; nobody is mostly among them.
    for uid in (FIRST_GUEST + os.getpid(), spaces.NOBODY):
        child = os.fork()
        if child == 0:
            try:
                become(uid)
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitpid(child, 0)[1] == 0:
            return uid
    raise PermissionError("this is root and cannot run a program as anybody else (no CAP_SETUID)")


def become(uid: int) -> None:
    """Be `uid` from now on, without groups and without a way back.

    Raises:
        OSError: Not allowed, or there is a way back.
    """
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    for back in (os.setuid, os.setgid):
        with contextlib.suppress(OSError):
            back(0)
            raise PermissionError(errno.EPERM, "root was given up and came back")


def start(job: dict[str, Any], fds: tuple[int, int, int], report: int, status: int) -> None:
    """Become the guest of `job`; never returns.

    Args:
        fds: Become its standard input, output and error; it has no others.
        report: Where to say as JSON what went wrong; closed on success.
        status: Where bubblewrap says how the guest ended.
    """
    begun = False
    try:
        os.setsid()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        wrapped = job["isolation"] == "bubblewrap"
        _close_others(report, status if wrapped else -1)
        for name in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores them
            signal.signal(name, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.chdir(job["cwd"])
        if job["isolation"] == "namespaces":
            spaces.show_only(job["cwd"], job["scratch"])
        _set_limits(job)
        _give_up_rights(job, wrapped)
        argv = _bubblewrap(job, status) if wrapped else job["argv"]
        begun = True
        os.execvpe(argv[0], argv, job["env"])
    except OSError as error:
        # What is wrong with the program is the caller's business, all else is the sandbox's.
        said = {"errno": error.errno or errno.EIO, "ours": not begun or wrapped, "text": str(error)}
        os.write(report, json.dumps(said).encode())
    finally:
        os._exit(127)


def _close_others(*kept: int) -> None:
    """Close all descriptors but 0, 1, 2 and `kept`: above all the socket that verdicts go through."""
    above = 3
    for fd in sorted(fd for fd in kept if fd > 2):
        os.closerange(above, fd)
        above = fd + 1
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    os.closerange(above, 1 << 20 if hard == resource.RLIM_INFINITY else min(hard, 1 << 30))


def _set_limits(job: dict[str, Any]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (job["cpu"], job["cpu"] + 1))
    _limit(resource.RLIMIT_FSIZE, job["file"])
    _limit(resource.RLIMIT_NOFILE, job["open_files"])
    _limit(resource.RLIMIT_NPROC, job["processes"] if LINUX else None)
    _limit(resource.RLIMIT_AS, job["memory"])


def _limit(kind: int, value: int | None) -> None:
    if value is None:
        return
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS knows RLIMIT_AS but refuses to set it
        resource.setrlimit(kind, (value, value))


def _give_up_rights(job: dict[str, Any], wrapped: bool) -> None:
    ruleset = -1
    if job["isolation"] == "namespaces":
        spaces.become_guest()
    else:
        if not wrapped and LINUX:  # before another user may not open a folder on the way
            files = (*spaces.SYSTEM, *spaces.SYSTEM_FILES, *(spaces.NETWORK_FILES if job["network"] else ()))
            shown = (*files, *job["readable"], "/proc")  # what is in there of others is as of any user
            ruleset = landlock.rules(shown, job["cwd"], spaces.DEVICES, network=job["network"])
        if 0 in (os.getuid(), os.geteuid()):
            become(job["guest"])
    spaces.prctl(spaces.PR_CAP_AMBIENT, spaces.PR_CAP_AMBIENT_CLEAR_ALL)
    spaces.prctl(spaces.PR_SET_PDEATHSIG, signal.SIGKILL)  # after it: changing user clears it
    if not wrapped:  # bubblewrap may have to be setuid; it sets no_new_privs itself
        spaces.prctl(spaces.PR_SET_NO_NEW_PRIVS, 1)
        landlock.confine(ruleset)


def _bubblewrap(job: dict[str, Any], status: int) -> list[str]:
    """bubblewrap's command line for what the namespaces of our own show as well."""
    options = ["--unshare-all", "--die-with-parent", "--json-status-fd", str(status)]
    if job["network"]:
        options.append("--share-net")
    files = (*spaces.SYSTEM_FILES, *(spaces.NETWORK_FILES if job["network"] else ()))
    for path in spaces.shown(files, job["readable"]):
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        else:
            options += ["--dev-bind" if path in spaces.DEVICES else "--ro-bind", path, path]
    os.set_inheritable(status, True)
    folder = job["cwd"]
    # The new root is a tmpfs that would else be the guest's to fill.
    options += ["--dir", "/tmp", "--bind", folder, folder, "--chdir", folder, "--remount-ro", "/"]
    return [job["bubblewrap"], *options, "--", *job["argv"]]
