"""A recorded /proc that a test damages; psutil reads it where PROCFS_PATH says."""

from pathlib import Path

KIB = 2**10
TOTAL_KIB, AVAILABLE_KIB = 65_000_000, 20_000_000
STAT = """\
cpu  {busy} 0 0 {idle} 0 0 0 0 0 0
cpu0 {busy} 0 0 {idle} 0 0 0 0 0 0
intr 1 2 3
ctxt 1000
btime {btime}
processes 10
"""
MEMINFO = f"""\
MemTotal:       {TOTAL_KIB} kB
MemFree:        10000000 kB
MemAvailable:   {AVAILABLE_KIB} kB
Buffers:          100000 kB
Cached:          9000000 kB
SwapCached:            0 kB
Active:          5000000 kB
Inactive:        6000000 kB
Shmem:            100000 kB
SReclaimable:     500000 kB
Slab:             600000 kB
"""
ARCSTATS = """\
9 1 0x01 147 39984 5410331014 74158208154387
name                            type data
hits                            4    7319285
c                               4    {size}
c_min                           4    {c_min}
c_max                           4    33594343424
size                            4    {size}
compressed_size                 4    25769803776
memory_all_bytes                4    67188686848
"""


class Proc:
    """The files of one host, written anew as they change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "self").mkdir(parents=True)
        self.write("filesystems", "nodev\tproc\n\text4\n")
        self.write("self/mounts", "/dev/sda2 / ext4 rw,relatime 0 0\n")
        self.write("meminfo", MEMINFO)
        self.count(100, 300)

    def write(self, name: str, text: str) -> None:
        """Replace one file in one step."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(text)
        new.replace(path)

    def count(self, busy: int, idle: int, btime: int = 1_700_000_000) -> None:
        """The CPU counters, in ticks, and when the host was booted."""
        self.write("stat", STAT.format(busy=busy, idle=idle, btime=btime))

    def arc(self, size: int, c_min: int) -> None:
        """ZFS's cache in bytes."""
        self.write("spl/kstat/zfs/arcstats", ARCSTATS.format(size=size, c_min=c_min))
