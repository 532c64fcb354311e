"""TFRecord, the container of most prepared data sets, read from its beginning to its end.

A record has four parts: its length (8 bytes), a checksum of the length (4), the content, a checksum of the
content (4). Numbers are little-endian. Checksums are CRC-32C (RFC 3720, appendix B.4), masked as in
TensorFlow (tensorflow/core/lib/hash/crc32c.h). Grain reads TFRecord too, but does not check the checksums.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def records(path: Path) -> Iterator[bytes]:
    """Yields the records of the file. Raises ValueError at the first one that is cut short or damaged."""
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        number = 0
        while left:
            (length,) = struct.unpack("<Q", _checked(file, 8, left, number))
            left -= 12
            yield _checked(file, length, left, number)
            left -= length + 4
            number += 1


def masked(content: bytes) -> int:
    """CRC-32C of the content, rotated and shifted so that data which contain checksums get a useful one."""
    from google_crc32c import value

    checksum = value(content)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _checked(file: IO[bytes], length: int, left: int, number: int) -> bytes:
    """The next `length` bytes, if the checksum that follows them agrees; `left` bytes remain in the file."""
    if length + 4 > left:
        raise ValueError(f"record {number} is cut short or damaged")
    content, check = file.read(length), file.read(4)
    if check != struct.pack("<I", masked(content)):
        raise ValueError(f"record {number} is damaged: its checksum is another")
    return content
