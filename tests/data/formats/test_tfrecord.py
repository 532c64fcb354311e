import struct

import numpy as np
import pytest

from jaxscore.data.formats import tfrecord
from tests.data.formats.test_tfds import PREPARED

# RFC 3720, appendix B.4: 32 bytes of zeros, of ones, ascending and descending.
PUBLISHED = {
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(range(31, -1, -1)): 0x113FDB5C,
    b"123456789": 0xE3069283,
    b"": 0,
}


@pytest.mark.parametrize(("content", "expected"), PUBLISHED.items())
def test_the_checksum_is_the_published_one(content, expected):
    assert tfrecord.crc32c(content) == expected


@pytest.mark.parametrize("length", [1, 2, 3, 4, 1023, 1024, 1025, 1027, 1028, 3072, 5000])
def test_blocks_are_put_together(length):
    content = np.random.default_rng(length).integers(0, 256, length).astype(np.uint8).tobytes()
    register = 0xFFFFFFFF
    for byte in content:  # as the standard has it, bit by bit
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert tfrecord.crc32c(content) == register ^ 0xFFFFFFFF


def test_files_that_tensorflow_wrote_have_the_checksums_that_are_computed():
    paths = sorted(PREPARED.rglob("*tfrecord-*"))
    assert [len(list(tfrecord.records(path))) for path in paths] == [60, 240]


def written(path, *records):
    path.write_bytes(b"".join(map(framed, records)))
    return path


def framed(record):
    check = lambda part: struct.pack("<I", tfrecord.masked(tfrecord.crc32c(part)))
    length = struct.pack("<Q", len(record))
    return length + check(length) + record + check(record)


def test_records_are_what_was_written(tmp_path):
    records = [b"one", b"", b"three" * 1000]
    assert list(tfrecord.records(written(tmp_path / "a", *records))) == records
    assert list(tfrecord.records(written(tmp_path / "b"))) == []


@pytest.mark.parametrize("place", range(39))
def test_every_flipped_bit_is_noticed(tmp_path, place):
    path = written(tmp_path / "a", b"first", b"other!")
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)
    records = tfrecord.records(path)
    if place >= 21:  # the second record
        assert next(records) == b"first"
    with pytest.raises(ValueError, match=f"record {int(place >= 21)} is "):
        next(records)


@pytest.mark.parametrize("length", [1, 8, 11, 12, 14, 20, 21 + 1, 21 + 21])
def test_a_file_that_ends_within_a_record_is_noticed(tmp_path, length):
    path = written(tmp_path / "a", b"first", b"other!")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"record [01] is cut short"):
        list(tfrecord.records(path))


def test_a_length_beyond_the_file_reserves_no_memory(tmp_path):
    length = struct.pack("<Q", 2**62)
    check = struct.pack("<I", tfrecord.masked(tfrecord.crc32c(length)))
    (tmp_path / "a").write_bytes(length + check + b"little")
    with pytest.raises(ValueError, match="record 0 is cut short"):
        list(tfrecord.records(tmp_path / "a"))
