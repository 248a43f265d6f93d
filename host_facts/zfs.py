"""How much memory ZFS's cache, the ARC, releases when programs need it; Linux counts it as used."""


def reclaimable_bytes(arcstats: str) -> int:
    """The bytes of the ARC above its minimum size, from /proc/spl/kstat/zfs/arcstats.

    Raises ValueError or KeyError if the text lacks them.
    """
    rows = [line.split() for line in arcstats.splitlines()]
    sizes = {row[0]: int(row[2]) for row in rows if len(row) == 3 and row[0] in ("size", "c_min")}
    return max(0, sizes["size"] - sizes["c_min"])
