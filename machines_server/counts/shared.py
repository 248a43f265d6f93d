"""Memory in which the processes of a server count; allocated before the fork, so that it needs no file."""

from mmap import mmap
from operator import add

CELL_BYTES = 8


class SharedCells:
    """Rows of whole numbers, one row for each worker, so that no process waits for another.

    The row of a worker is kept, however the worker ends, and another one continues it: sums over
    all rows never fall while the server runs.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._rows, self._columns = rows, columns + 1
        self._cells = memoryview(mmap(-1, rows * self._columns * CELL_BYTES)).cast("Q")

    def take_row(self, row: int) -> memoryview:
        """The cells of a row; only one process at a time may write to them."""
        start = row * self._columns
        self._cells[start] = 1  # in use, so that sums need not read all rows that were ever possible
        return self._cells[start + 1 : start + self._columns]

    def sums(self) -> list[int]:
        """The sum of each column over all rows."""
        total = [0] * (self._columns - 1)
        for start in range(0, self._rows * self._columns, self._columns):
            if self._cells[start]:
                total = list(map(add, total, self._cells[start + 1 : start + self._columns]))
        return total
