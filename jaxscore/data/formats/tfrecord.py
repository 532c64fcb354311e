"""TFRecord, the container that most prepared data sets come in: read from its beginning to its end.

A record is its length (8 bytes), a checksum of that (4), the bytes, a checksum of these (4), all
little-endian; the checksum is CRC-32C (RFC 3720, appendix B.4), rotated and shifted, in TensorFlow's
words "masked" (tensorflow/core/lib/hash/crc32c.h). Grain reads the container too, without looking at its
checksums.

>>> hex(crc32c(b"123456789"))
'0xe3069283'
"""

import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt32

POLYNOMIAL = 0x82F63B78
"""Castagnoli's, its bits reversed."""

BLOCK = 1024
"""Bytes whose share in the checksum is looked up at once."""


def records(path: Path) -> Iterator[bytes]:
    """The records of the file, in turn. Raises ValueError at the first that is cut short or damaged."""
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        number = 0
        while left:
            (length,) = struct.unpack("<Q", _checked(file, 8, left, number))
            left -= 12
            yield _checked(file, length, left, number)
            left -= length + 4
            number += 1


def masked(checksum: int) -> int:
    """The checksum as it is stored: that of data which hold checksums themselves would mean little."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """CRC-32C: the remainder of the content, as a polynomial over two elements, by Castagnoli's.

    Linear, so the share of every byte in a block is looked up by itself, and what came before the block is
    added to the block's first four bytes.
    """
    tables, register = _tables(), 0xFFFFFFFF
    values = np.frombuffer(content, np.uint8)
    whole = len(values) if len(values) % BLOCK > 3 else len(values) - len(values) % BLOCK
    for start in range(0, whole, BLOCK):
        block = values[start : start + BLOCK].copy()
        block[:4] ^= np.frombuffer(struct.pack("<I", register), np.uint8)
        register = int(np.bitwise_xor.reduce(tables[np.arange(len(block))[::-1], block]))
    for byte in content[whole:]:
        register = register >> 8 ^ int(tables[0, register & 255 ^ byte])
    return register ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _tables() -> UInt32[np.ndarray, "block 256"]:
    """[k, b]: the share of the byte b in the checksum of a content that ends k bytes after it."""
    tables = np.empty((BLOCK, 256), np.uint32)
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = row >> 1 ^ np.where(row & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    tables[0] = row
    for k in range(1, BLOCK):
        tables[k] = tables[k - 1] >> 8 ^ row[tables[k - 1] & 255]
    return tables


def _checked(file: IO[bytes], length: int, left: int, number: int) -> bytes:
    """So many bytes, of those left in the file, that are followed by their checksum."""
    if length + 4 > left:
        raise ValueError(f"record {number} is cut short or damaged")
    content, check = file.read(length), file.read(4)
    if check != struct.pack("<I", masked(crc32c(content))):
        raise ValueError(f"record {number} is damaged: its checksum is another")
    return content
