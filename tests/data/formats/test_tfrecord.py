import struct

import pytest

from jaxscore.data.formats import tfrecord
from tests.data.formats.test_tfds import PREPARED


def test_the_checksums_are_tensorflows():
    """Files that TensorFlow wrote pass the check."""
    paths = sorted(PREPARED.rglob("*tfrecord-*"))
    assert [len(list(tfrecord.records(path))) for path in paths] == [60, 240]


def written(path, *records):
    path.write_bytes(b"".join(map(framed, records)))
    return path


def framed(record):
    check = lambda part: struct.pack("<I", tfrecord.masked(part))
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
    check = struct.pack("<I", tfrecord.masked(length))
    (tmp_path / "a").write_bytes(length + check + b"little")
    with pytest.raises(ValueError, match="record 0 is cut short"):
        list(tfrecord.records(tmp_path / "a"))
