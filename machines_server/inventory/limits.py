"""Limits for one machine file; real files have 1 to 4 KiB and about 50 keys and values."""

MAX_MACHINE_FILE_BYTES = 2**16
MAX_VALUES = 12_000
"""Keys, values and aliases in one file. A file with this many takes half a second to read, or a
second if it is full of tags, anchors or tabs."""
MAX_DEPTH = 100
"""Levels of nested lists and mappings."""
MAX_ALIAS_EXPANSION = 2**16
"""Values and characters that the expansion of all aliases adds."""
MAX_DIGITS = 3500
"""Digits of an integer. Python refuses to print more than 4,300."""
MAX_PROBLEMS_OF_A_FILE = 100
"""Problems listed for one file; any more are only counted."""


def too_large(size_bytes: int) -> str:
    """The message about a file of this size."""
    return f"the file has {size_bytes:,} bytes; expected at most {MAX_MACHINE_FILE_BYTES:,}"
