"""Which processes hold a lock on a file, according to /proc."""

from pathlib import Path

EXCLUSIVE, SHARED = "WRITE", "READ"
"""The kinds of locks, as /proc/locks calls them."""


def lock_owners(path: Path, kind: str) -> set[int]:
    """The processes, as far as visible to this one, that hold a lock of that kind on a file."""
    try:
        inode, table = path.stat().st_ino, Path("/proc/locks").read_text()
    except OSError:
        return set()
    rows = (line.split() for line in table.splitlines())
    return {
        int(row[4])
        for row in rows
        if row[1] == "FLOCK"
        and row[3] == kind
        and row[5].rpartition(":")[2] == str(inode)
        and int(row[4]) > 0
    }


def pids_of(pid: int) -> set[int]:
    """All PIDs of a process, which has another one in each nested container."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {pid}
    (pids,) = (line for line in status.splitlines() if line.startswith("NSpid:"))
    return {pid, *map(int, pids.split()[1:])}
