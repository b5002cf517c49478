"""Runs a program under what a systemd unit grants it, without systemd:

    confine.py mounts STATE PROGRAM ARGUMENT...
        ProtectSystem=strict: everything is read-only but the folder STATE.
    confine.py calls SETS FAMILIES PROGRAM ARGUMENT...
        SystemCallFilter= (SETS, in the unit's words and order), MemoryDenyWriteExecute=yes
        and RestrictAddressFamilies=. A call that is not allowed kills.
"""
import ctypes
import os
import socket
import subprocess
import sys

libc = ctypes.CDLL(None, use_errno=True)


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mounts(state):
    CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 1 << 18
    check(libc.unshare(CLONE_NEWNS))
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    check(libc.mount(state.encode(), state.encode(), None, MS_BIND, None))

    def attributes(path, flags, set, clear):
        class mount_attr(ctypes.Structure):
            _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]
        attr, AT_FDCWD, mount_setattr = mount_attr(set, clear, 0, 0), -100, 442
        check(libc.syscall(mount_setattr, AT_FDCWD, path.encode(), flags, ctypes.byref(attr), ctypes.sizeof(attr)))

    MOUNT_ATTR_RDONLY, AT_RECURSIVE = 1, 0x8000
    attributes("/", AT_RECURSIVE, MOUNT_ATTR_RDONLY, 0)
    attributes(state, 0, 0, MOUNT_ATTR_RDONLY)


def expand(name):
    """The system calls in a set of systemd's."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True).stdout
    members = [line.strip() for line in text.splitlines()[1:]]
    return set().union(*(expand(m) for m in members if m and not m.startswith("#")))


def calls(sets, families):
    import seccomp
    from seccomp import Arg, EQ, MASKED_EQ

    allowed = set()
    for line in sets.split("\n"):
        names = set().union(*(expand(name) for name in line.lstrip("~").split()))
        allowed = allowed - names if line.startswith("~") else allowed | names
    allowed |= expand("@default")
    filter = seccomp.SyscallFilter(seccomp.KILL_PROCESS)

    def allow(name, *args):
        try:
            filter.add_rule(seccomp.ALLOW, name, *args)
        except (RuntimeError, ValueError, OSError):
            pass  # none of this architecture
    WRITE, EXEC = 2, 4
    for name in allowed - {"socket", "mmap", "mprotect", "pkey_mprotect", "shmat"}:
        allow(name)
    for family in families.split():
        allow("socket", Arg(0, EQ, getattr(socket, family)))
    allow("mmap", Arg(2, MASKED_EQ, WRITE, 0))
    allow("mmap", Arg(2, MASKED_EQ, EXEC, 0))
    allow("mprotect", Arg(2, MASKED_EQ, EXEC, 0))
    filter.load()


if sys.argv[1] == "mounts":
    mounts(sys.argv[2])
    rest = sys.argv[3:]
else:
    calls(sys.argv[2], sys.argv[3])
    rest = sys.argv[4:]
os.execvp(rest[0], rest)
