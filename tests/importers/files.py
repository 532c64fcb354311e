"""Files as PyTorch writes them, written without PyTorch; and where the published ones are."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PUBLISHED = Path(__file__).parent / "published"

ORDER = "little"
KINDS = {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long"}
KINDS |= {"int32": "Int", "uint8": "Byte", "bool": "Bool"}


def arrays_of(case: str) -> dict[str, np.ndarray]:
    """What a published checkpoint returns, with channels last."""
    with np.load(PUBLISHED / f"{case}.npz") as file:
        arrays = {name: file[name] for name in file.files if name != "meta.json"}
    return {name: a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for name, a in arrays.items()}


class Name(NamedTuple):
    """What a pickle finds in a module."""

    module: str
    name: str


class Call(NamedTuple):
    """What a pickle computes by calling it."""

    function: Name
    arguments: tuple


class View(NamedTuple):
    """A tensor that looks at some of the numbers of a storage."""

    storage: np.ndarray
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Writer(pickle._Pickler):
    """Writes names without looking for them, and arrays as PyTorch's tensors."""

    def __init__(self, file: io.BytesIO, storages: dict[str, np.ndarray] | None = None):
        super().__init__(file, protocol=2)
        self.storages = {} if storages is None else storages

    def save(self, value: Any, *rest: Any, **further: Any) -> None:
        if isinstance(value, Name):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(tuple(value.arguments))
            self.write(pickle.REDUCE)
        elif isinstance(value, np.ndarray):
            strides = tuple(stride // value.itemsize for stride in np.array(value, order="C").strides)
            self.save(View(np.ascontiguousarray(value).ravel(), 0, value.shape, strides))
        elif isinstance(value, View):
            rest = (
                value.offset,
                value.shape,
                value.strides,
                False,
                Call(Name("collections", "OrderedDict"), ()),
            )
            self.save(Call(Name("torch._utils", "_rebuild_tensor_v2"), (Stored(value.storage), *rest)))
        elif isinstance(value, Stored):
            key = next((k for k, kept in self.storages.items() if kept is value.numbers), None)
            key = key or str(len(self.storages))
            self.storages[key] = value.numbers
            kind = Name("torch", f"{KINDS[value.numbers.dtype.name]}Storage")
            self.save(("storage", kind, key, "cpu", value.numbers.size))
            self.write(pickle.BINPERSID)
        else:
            super().save(value, *rest, **further)


class Stored(NamedTuple):
    """A storage of PyTorch."""

    numbers: np.ndarray


def pickled(content: Any, storages: dict[str, np.ndarray] | None = None) -> bytes:
    file = io.BytesIO()
    Writer(file, storages).dump(content)
    return file.getvalue()


def zipped(content: Any, folder: str = "archive") -> bytes:
    """The file of torch.save since 2020."""
    storages: dict[str, np.ndarray] = {}
    data, file = pickled(content, storages), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", data)
        archive.writestr(f"{folder}/byteorder", ORDER)
        for key, numbers in storages.items():
            archive.writestr(f"{folder}/data/{key}", numbers.tobytes())
        archive.writestr(f"{folder}/version", "3")
    return file.getvalue()


def legacy(content: Any) -> bytes:
    """The file of torch.save before 2020, which also holds each tensor in pickles of NVIDIA's code."""
    storages: dict[str, np.ndarray] = {}
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    parts = [0x1950A86A20F9469CFC6C, 1001, system]
    data = b"".join(map(pickled, parts)) + pickled(content, storages) + pickled(list(storages))
    numbers = (each.size.to_bytes(8, "little") + each.tobytes() for each in storages.values())
    return data + b"".join(numbers)
