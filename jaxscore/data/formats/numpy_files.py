"""NumPy's files .npy and .npz: checked before they are used, and memory-mapped if they are large.

>>> import tempfile
>>> path = Path(tempfile.mkdtemp()) / "a.npz"
>>> np.savez(path, images=np.eye(2), labels=np.arange(2))
>>> {name: array.shape for name, array in load(path).items()}
{'images': (2, 2), 'labels': (2,)}
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jaxscore.data.images import DataError, guarded, require_memory

File = IO[bytes] | zipfile.ZipExtFile

CHUNK = 2**24
"""Bytes that are read at a time when a whole file is read."""


class Header(NamedTuple):
    """Header of a .npy file: shape, order, and type (bool, numbers or strings)."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int
    """Length of the header in bytes."""


def load(
    path: Path, names: tuple[str, ...] = ("images", "labels"), *, mapped_from: int = 2**28
) -> dict[str, np.ndarray]:
    """The named arrays that an .npz file holds; the array of an .npy file gets the first name.

    An array of at least `mapped_from` values is memory-mapped, read-only, and read from disk when used,
    unless it is compressed. Nothing is executed: arrays of objects, which are pickles, are refused. Members
    of an .npz file have a checksum, which is verified here. An .npy file has no checksum, and only its size
    is verified.

    Raises:
        DataError: if the file does not exist or is damaged.
    """
    with guarded(path, path.open, "rb") as file:
        is_archive = guarded(path, file.read, 4) in (b"PK\3\4", b"PK\5\6")
    if not is_archive:
        return {names[0]: guarded(path, _from_npy, path, mapped_from)}
    with guarded(path, zipfile.ZipFile, path) as archive:
        members = {name: f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()}
        read = lambda member: guarded(path, _from_archive, path, archive, member, mapped_from)
        return {name: read(archive.getinfo(member)) for name, member in members.items()}


def chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of the array, in blocks of about CHUNK bytes."""
    rows = max(1, CHUNK // max(1, array[:1].nbytes))
    return (array[start : start + rows] for start in range(0, len(array), rows))


def header(file: File, size: int) -> Header:
    """Header of a .npy file of `size` bytes; leaves `file` at the end of the header.

    The header is a magic string, the version, the length and a literal dictionary.

    Raises:
        ValueError: if the file is cut short or damaged, or holds objects.

    Source: NEP 1, and numpy.lib.format.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 is for field names; arrays with fields are refused
        raise ValueError(f"its format {version} holds no plain numbers")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or dtype.kind not in "biufcUS":
        raise ValueError(f"it holds {dtype}, not numbers; what is pickled is not read")
    length = file.tell()
    if min(shape, default=0) < 0 or length + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"it is cut short or damaged: {size} bytes are not {dtype}{list(shape)}")
    return Header(shape, fortran, dtype, length)


def _from_npy(path: Path, mapped_from: int) -> np.ndarray:
    with path.open("rb") as file:
        found = header(file, path.stat().st_size)
        if math.prod(found.shape) >= mapped_from:
            return _map(path, found, found.length)
        return _read(path, file, found)


def _from_archive(path: Path, archive: zipfile.ZipFile, member, mapped_from: int) -> np.ndarray:
    with archive.open(member) as file:
        found = header(file, member.file_size)
        large = math.prod(found.shape) >= mapped_from
        if not large or member.compress_type != zipfile.ZIP_STORED:
            array = _read(path, file, found)
            if file.read(1):  # zipfile verifies the checksum at the end of a member
                raise ValueError(f"{member.filename} is longer than it says")
            return array
    place = _place(path, member)
    _require_checksum(path, member, place)
    return _map(path, found, place + found.length)


def _read(path: Path, file: File, found: Header) -> np.ndarray:
    nbytes = math.prod(found.shape) * found.dtype.itemsize
    require_memory(path, nbytes, "save it with numpy.savez, uncompressed, and it is read as it is used")
    content = np.empty(nbytes, np.uint8)
    view, place = memoryview(content), 0
    while place < nbytes:
        count = file.readinto(view[place : place + CHUNK])
        if not count:
            raise ValueError("it is cut short")
        place += count
    return content.view(found.dtype).reshape(found.shape, order="F" if found.fortran else "C")


def _map(path: Path, found: Header, place: int) -> np.ndarray:
    order = "F" if found.fortran else "C"
    mapped = np.memmap(path, found.dtype, "r", offset=place, shape=found.shape, order=order)
    return mapped.view(np.ndarray)  # keeps the mapping; callers get a plain array


def _place(path: Path, member: zipfile.ZipInfo) -> int:
    """Offset of the member's bytes (APPNOTE.TXT of ZIP, 4.3.7: they follow two fields of variable length)."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        local = file.read(30)
    if len(local) < 30 or not local.startswith(b"PK\3\4"):
        raise ValueError(f"{member.filename} is not where the directory says")
    name, extra = struct.unpack_from("<HH", local, 26)
    return member.header_offset + 30 + name + extra


def _require_checksum(path: Path, member: zipfile.ZipInfo, place: int) -> None:
    check, left = 0, member.file_size
    with path.open("rb") as file:
        file.seek(place)
        while left and (part := file.read(min(CHUNK, left))):
            check, left = zlib.crc32(part, check), left - len(part)
    if left or check != member.CRC:
        raise DataError(f"{path} is damaged: the checksum of {member.filename} is another")
