"""A cache whose size is limited in bytes, since callers choose its keys."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
ENTRY_BYTES = 500
"""The overhead of an entry, beyond the size given by the caller."""


class ByteCache(Generic[Key, Value]):
    """Keeps values up to a total size, and drops the least recently used first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """The size of all entries."""
        return self._bytes

    def get(self, key: Key) -> Value | None:
        """The value of a key, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Key, value: Value, size_bytes: int) -> None:
        """Keep a value unless it is too large; `size_bytes` is the size of key and value."""
        size_bytes += ENTRY_BYTES
        if size_bytes > self._max_bytes:
            return
        with self._lock:
            _, replaced_bytes = self._entries.pop(key, (None, 0))
            self._entries[key] = value, size_bytes
            self._bytes += size_bytes - replaced_bytes
            while self._bytes > self._max_bytes:
                _, (_, dropped_bytes) = self._entries.popitem(last=False)
                self._bytes -= dropped_bytes
