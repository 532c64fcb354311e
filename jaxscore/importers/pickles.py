"""Reads pickled checkpoints, of NVIDIA's code and of PyTorch, without executing what is in them.

    content = pickles.read("edm-cifar10-32x32-cond-vp.pkl")      # a pickle with NVIDIA's classes
    content = pickles.read("checkpoint_24.pth")                  # of torch.save, a zip file or older

A pickle is a program that may name any function of any module and call it. This reader knows the few names
that checkpoints need; each stands for a function of this module, or for a container of the standard library.
Any other name is an error that says which. PyTorch is not needed.

    dict, list, tuple, set, text, number      as they are; OrderedDict, EasyDict: a dictionary
    torch.Tensor, Parameter                   Tensor; `array` makes an array of it
    an object of NVIDIA's classes             Record(class_name, state); its source code is ignored
    a numpy scalar                            a number
    ModuleDict and other containers           types.SimpleNamespace
"""

import io
import math
import pickle
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""With these two numbers PyTorch's files of before 2020 begin."""

TYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
"""Types of the numbers in PyTorch's storages."""


class Record(NamedTuple):
    """An object of a class whose code came with it and was not executed."""

    class_name: str
    state: dict[str, Any]


class Storage:
    """Numbers of one type, which one or more tensors look at; in old files they come after the tensors."""

    __slots__ = ("dtype", "numbers")

    def __init__(self, dtype: Any, numbers: np.ndarray | None = None):
        self.dtype, self.numbers = dtype, numbers


class Tensor(NamedTuple):
    """A view of a storage: element i of the tensor is storage[offset + sum(i * strides)]."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Refused(ValueError):
    """The file asks for something that no checkpoint needs."""


def read(path: str | Path) -> Any:
    """Returns the content of a pickle or of a file of torch.save.

    Raises ValueError, in one line, if the file asks for a name that is not known, if it is damaged, or if it
    is something else; OSError if it cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        return _content(data)
    except Refused as refusal:
        raise ValueError(f"{path}: {refusal}") from None
    except Exception as error:  # a damaged pickle may raise nearly any error
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ValueError(f"{path}: {_seems(data)} ({reason})") from None


def array(tensor: Any) -> np.ndarray:
    """Returns the numbers of a `Tensor` as an array in C order; floats of 16 bits become float32.

    Raises ValueError if it is no tensor, or if it looks beyond the end of its storage.
    """
    numbers = getattr(getattr(tensor, "storage", None), "numbers", None)
    if not isinstance(tensor, Tensor) or not isinstance(numbers, np.ndarray):
        raise ValueError(f"there is {type(tensor).__name__}, where a tensor should be")
    _, offset, shape, strides = tensor
    counts = all(isinstance(n, int) and n >= 0 for n in (offset, *shape, *strides))
    fits = counts and len(shape) == len(strides)
    size = math.prod(shape) if fits else 0
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if size else -1
    # A tensor with more elements than its storage could fill the memory.
    if not fits or size > len(numbers) or last >= len(numbers):
        raise ValueError(f"a tensor {shape} with strides {strides} looks beyond its {len(numbers)} numbers")
    view = numbers[offset:] if size else numbers[:0]
    steps = [stride * numbers.itemsize for stride in strides]
    found = (
        np.lib.stride_tricks.as_strided(view, shape, steps, writeable=False) if size else view.reshape(shape)
    )
    narrow = found.dtype.itemsize == 2 and found.dtype.kind not in "iu"
    return np.array(found, np.float32 if narrow else found.dtype, order="C")


# The formats ----------------------------------------------------------------------------------


def _content(data: bytes) -> Any:
    if data[:2] == b"PK":
        return _zipped(zipfile.ZipFile(io.BytesIO(data)))
    file = io.BytesIO(data)
    first = _Unpickler(file).load()
    return _legacy(file) if first == MAGIC else first


def _zipped(archive: zipfile.ZipFile) -> Any:
    """Returns the content of a file of torch.save since 2020: FOLDER/data.pkl and FOLDER/data/KEY."""
    names = [name for name in archive.namelist() if name.endswith("data.pkl")]
    if len(names) != 1:
        raise Refused("it is a zip file, but torch.save has not written it: it has no data.pkl")
    folder = names[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise Refused("its numbers are big-endian, which is not supported")
    storages: dict[str, Storage] = {}

    def storage(dtype: Any, key: str, size: int) -> Storage:
        if key not in storages:
            storages[key] = Storage(dtype, _numbers(archive.read(f"{folder}data/{key}"), dtype, size))
        return storages[key]

    return _Unpickler(io.BytesIO(archive.read(names[0])), storage).load()


def _legacy(file: io.BytesIO) -> Any:
    """Returns the content of an older file of torch.save, of which the first number has been read.

    Four pickles follow, of which the third is the content and the fourth lists the storages. For each
    storage the number of its elements, as 8 bytes, and the elements come then.
    """
    protocol, system = _Unpickler(file).load(), _Unpickler(file).load()
    if protocol != PROTOCOL or not system.get("little_endian", True):
        raise Refused("it has PyTorch's old format in a version that is not supported")
    storages: dict[str, Storage] = {}
    storage = lambda dtype, key, size: storages.setdefault(key, Storage(dtype))
    content, keys = _Unpickler(file, storage).load(), _Unpickler(file).load()
    for key in keys:
        size, dtype = int.from_bytes(file.read(8), "little"), np.dtype(storages[key].dtype)
        storages[key].numbers = _numbers(file.read(size * dtype.itemsize), dtype, size)
    return content


def _numbers(data: bytes, dtype: Any, size: int) -> np.ndarray:
    found = np.frombuffer(data, dtype)
    if len(found) < size:
        raise ValueError(f"a storage of {size} numbers has {len(found)}")
    return found


def _seems(data: bytes) -> str:
    """What a file that cannot be read seems to be."""
    start = data[:200].lstrip()
    if not start:
        return "it is empty"
    if start[:1] == b"<":
        return "it is a web page, and no checkpoint; download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, and no checkpoint; download the file that it stands for"
    if data[8:9] == b"{":
        return "it is a safetensors file; give the folder that has its config.json too"
    if data[:2] == b"PK" or data[:1] == b"\x80":
        return "it is damaged; the download may have ended early"
    return "it is no checkpoint"


# The names ------------------------------------------------------------------------------------


class _Known(NamedTuple):
    """A name that a pickle may call. A tuple cannot be changed by the pickle, as a function could be."""

    build: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.build(*args)


class _Dtype:
    """NumPy's type of a scalar or an array, as the pickle describes it."""

    def __init__(self, code: str, *rest: Any):
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1] if state[1] in "<>" else "<"

    def numpy(self) -> np.dtype:
        """Returns the type; ValueError if it is not one of numbers."""
        dtype = np.dtype(self.order + self.code)
        if dtype.kind not in "fiub":
            raise Refused(f"it has numbers of type {self.code}")
        return dtype


class _Array:
    """An array of NumPy, kept as the pickle has it: no weights are stored as such arrays."""

    def __setstate__(self, state: tuple) -> None:
        self.state = state


def _object(meta: dict[str, Any]) -> Record:
    if meta.get("type") != "class":
        raise Refused(f"it has an object of NVIDIA's of type {meta.get('type')!r}")
    return Record(meta["class_name"], meta["state"])


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


_view = lambda storage, offset, shape, strides, *rest: Tensor(storage, offset, tuple(shape), tuple(strides))
_scalar = lambda dtype, data: np.frombuffer(data, dtype.numpy())[0].item()

NAMES: dict[str, Any] = {
    # These are types of C, which a pickle cannot change.
    "collections.OrderedDict": OrderedDict,
    "dnnlib.util.EasyDict": OrderedDict,
    "builtins.set": set,
    "__builtin__.set": set,
    **{f"torch.nn.modules.container.{name}": types.SimpleNamespace for name in ("ModuleDict", "ModuleList")},
    "torch_utils.persistence._reconstruct_persistent_obj": _Known(_object),
    "torch._utils._rebuild_parameter": _Known(lambda tensor, *rest: tensor),
    "torch._utils._rebuild_tensor_v2": _Known(_view),
    "torch._utils._rebuild_tensor": _Known(_view),
    "torch.storage._load_from_bytes": _Known(lambda data: _content(data)),
    "torch.Size": _Known(tuple),
    "torch.device": _Known(lambda *names: names),
    "numpy.dtype": _Known(_Dtype),
    "numpy.ndarray": _Known(lambda *rest: _Array()),
    "_codecs.encode": _Known(_encoded),
    **{f"torch.{name}": _Known(lambda name=name: TYPES[name]) for name in TYPES},
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    NAMES |= {f"{_module}.scalar": _Known(_scalar), f"{_module}._reconstruct": _Known(lambda *rest: _Array())}


class _Unpickler(pickle.Unpickler):
    """Python's unpickler, with the names in NAMES, and with PyTorch's storages."""

    def __init__(self, file: io.BytesIO, storage: Callable[[Any, str, int], Storage] | None = None):
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Returns what stands for the name. Raises Refused if the name is not known."""
        if f"{module}.{name}" not in NAMES:
            text = f"it asks for {module}.{name}, which no checkpoint needs"
            raise Refused(f"{text}; nothing of it was executed")
        return NAMES[f"{module}.{name}"]

    def persistent_load(self, identity: Any) -> Storage:
        """Returns the storage with this identity: ("storage", type, key, device, size)."""
        kind, dtype, key, _, size, *view = identity
        if kind != "storage" or self._storage is None or (view and view[0] is not None):
            raise Refused("it refers to something outside of the file")
        return self._storage(dtype(), str(key), size)
