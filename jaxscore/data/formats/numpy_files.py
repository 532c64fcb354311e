"""NumPy files, .npy and .npz: checked for damage, and memory-mapped if they are large.

numpy.load maps no member of an .npz file (it ignores mmap_mode there), hence the code below.

>>> import tempfile
>>> path = Path(tempfile.mkdtemp()) / "a.npz"
>>> np.savez(path, images=np.eye(2), labels=np.arange(2))
>>> {name: array.shape for name, array in load(path).items()}
{'images': (2, 2), 'labels': (2,)}
"""

import math
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from jaxscore.data.images import guarded, require_memory

File = IO[bytes] | zipfile.ZipExtFile

CHUNK = 2**24
"""Bytes read at a time."""


class Header(NamedTuple):
    """Header of a .npy file: shape, order and dtype of the array that follows."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int
    """Bytes of the header."""


def load(
    path: Path, names: tuple[str, ...] = ("images", "labels"), *, mapped_from: int = 2**28
) -> dict[str, np.ndarray]:
    """Returns the named arrays that an .npz file has. The array of an .npy file gets the first name.

    Uncompressed arrays of at least `mapped_from` values are memory-mapped, read-only. Pickled arrays
    are refused, so no code in a file is executed. Checksums of .npz members are verified here, once; .npy
    files have no checksum, only their size is checked. Raises DataError if the file is missing or damaged.
    """
    with guarded(path, path.open, "rb") as file:
        is_archive = guarded(path, file.read, 4) in (b"PK\3\4", b"PK\5\6")
    if not is_archive:
        return {names[0]: guarded(path, _from_npy, path, mapped_from)}
    with guarded(path, zipfile.ZipFile, path) as archive:
        members = {name: f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()}
        read = lambda member: guarded(path, _from_archive, path, archive, member, mapped_from)
        return {name: read(archive.getinfo(member)) for name, member in members.items()}


def listing(path: Path) -> dict[str, str]:
    """Returns the type and shape of each array in an .npz file, by name, such as `uint8[60000, 28, 28]`.

    An .npy file has no names, and its listing is empty. Raises DataError if the file cannot be opened.
    """
    with guarded(path, path.open, "rb") as file:
        if guarded(path, file.read, 4) not in (b"PK\3\4", b"PK\5\6"):
            return {}
    with guarded(path, zipfile.ZipFile, path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        return {member.filename[:-4]: _described(archive, member) for member in members}


def _described(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> str:
    try:
        with archive.open(member) as file:
            found = header(file, member.file_size)
    except Exception:  # damaged, or not numbers: reading it says which
        return "unreadable"
    return f"{found.dtype}{list(found.shape)}"


def chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the rows of the array in blocks of about CHUNK bytes."""
    rows = max(1, CHUNK // max(1, array[:1].nbytes))
    return (array[start : start + rows] for start in range(0, len(array), rows))


def header(file: File, size: int) -> Header:
    """Reads the header of a .npy file of `size` bytes. Raises ValueError if header and size disagree.

    The header has a magic string, the version, its length and a literal dictionary (NEP 1, numpy.lib.format).
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):  # 3.0 is for Unicode names of structured dtypes
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
        file.seek(0)
        return _read(path, file, found)


def _from_archive(path: Path, archive: zipfile.ZipFile, member, mapped_from: int) -> np.ndarray:
    with archive.open(member) as file:
        found = header(file, member.file_size)
    large = math.prod(found.shape) >= mapped_from
    with archive.open(member) as file:  # again, because a seek ends zipfile's checksum
        if not large or member.compress_type != zipfile.ZIP_STORED:
            array = _read(path, file, found)
            if file.read(1):
                raise ValueError(f"{member.filename} is longer than it says")
            return array
        while file.read(CHUNK):
            pass
    return _map(path, found, _place(path, member) + found.length)


def _read(path: Path, file: File, found: Header) -> np.ndarray:
    nbytes = math.prod(found.shape) * found.dtype.itemsize
    require_memory(path, nbytes, "save it with numpy.savez, uncompressed, and it is read as it is used")
    return np.lib.format.read_array(file, allow_pickle=False)


def _map(path: Path, found: Header, place: int) -> np.ndarray:
    order = "F" if found.fortran else "C"
    mapped = np.memmap(path, found.dtype, "r", offset=place, shape=found.shape, order=order)
    return mapped.view(np.ndarray)  # a plain array: some functions treat the subclass memmap differently


def _place(path: Path, member: zipfile.ZipInfo) -> int:
    """Returns the offset of the member's bytes, after two fields of variable length (ZIP APPNOTE 4.3.7)."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        local = file.read(30)
    if len(local) < 30 or not local.startswith(b"PK\3\4"):
        raise ValueError(f"{member.filename} is not where the directory says")
    name, extra = struct.unpack_from("<HH", local, 26)
    return member.header_offset + 30 + name + extra
