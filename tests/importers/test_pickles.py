"""Pickles are read without PyTorch, and nothing in them is executed."""

import builtins
import os
import pickle
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from jaxscore.importers import pickles
from tests.importers.files import PUBLISHED, Call, Name, View, legacy, pickled, zipped

FORMATS = {
    "zip": zipped,
    "zip in a folder": lambda content: zipped(content, "checkpoint_5"),
    "legacy": legacy,
}
COUNT = np.arange(24, dtype=np.float32)


def read(tmp_path, data):
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    return pickles.read(path)


# Tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_tensors_of_torch_files_are_read(tmp_path, write):
    content = {
        "a": COUNT.reshape(2, 3, 4),
        "step": 7,
        "b": [np.array(2, np.float32), np.arange(3)],
        "c": COUNT,
    }
    found = read(tmp_path, write(content))
    assert found["step"] == 7
    for tensor, expected in ((found["a"], content["a"]), (found["b"][0], 2), (found["b"][1], [0, 1, 2])):
        np.testing.assert_array_equal(
            pickles.array(tensor), expected, strict=isinstance(expected, np.ndarray)
        )
    assert pickles.array(found["b"][1]).dtype == np.int64


VIEWS = {
    "transposed": (View(COUNT, 0, (4, 6), (1, 4)), COUNT.reshape(6, 4).T),
    "slice": (View(COUNT, 5, (3,), (1,)), COUNT[5:8]),
    "every second row": (View(COUNT, 4, (3, 4), (8, 1)), COUNT.reshape(6, 4)[1::2]),
    "empty": (View(COUNT, 0, (0, 4), (4, 1)), np.zeros((0, 4), np.float32)),
    "channels last": (View(COUNT, 0, (2, 3, 4), (12, 1, 3)), COUNT.reshape(2, 4, 3).transpose(0, 2, 1)),
}


@pytest.mark.parametrize("write", [zipped, legacy])
@pytest.mark.parametrize("name", VIEWS)
def test_views_are_read_by_their_strides(tmp_path, write, name):
    view, expected = VIEWS[name]
    found = pickles.array(read(tmp_path, write([view])).pop())
    np.testing.assert_array_equal(found, expected, strict=True)
    assert found.flags.c_contiguous


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16])
def test_sixteen_bits_are_read_as_float32(tmp_path, dtype):
    exact = np.array([1.5, -2, 0.25, 3e4], dtype)
    for write in (zipped, legacy):
        found = pickles.array(read(tmp_path, write([exact])).pop())
        np.testing.assert_array_equal(found, exact.astype(np.float32), strict=True)


BEYOND = {
    "end": View(COUNT, 20, (5,), (1,)),
    "start": View(COUNT, -1, (2,), (1,)),
    "stride": View(COUNT, 0, (5,), (6,)),
    "negative stride": View(COUNT, 10, (5,), (-1,)),
    "more than there is": View(COUNT, 0, (10**9, 10**9), (0, 0)),
    "axes": View(COUNT, 0, (2, 2), (1,)),
    "text": View(COUNT, "0", (2,), (1,)),
}


@pytest.mark.parametrize("view", BEYOND.values(), ids=BEYOND)
def test_a_tensor_that_looks_beyond_its_storage_is_refused(tmp_path, view):
    with pytest.raises(ValueError, match="looks beyond its 24 numbers"):
        pickles.array(read(tmp_path, zipped([view])).pop())


def test_what_is_no_tensor_is_no_array():
    with pytest.raises(ValueError, match="there is int, where a tensor should be"):
        pickles.array(3)


def test_a_snapshot_has_records_in_place_of_objects():
    content = pickles.read(PUBLISHED / "edm_snapshot.pkl")
    assert content["ema"].class_name == "EDMPrecond"
    assert content["ema"].state["sigma_data"] == 0.5
    assert content["ema"].state["_modules"]["model"].class_name == "SongUNet"


# What is refused ------------------------------------------------------------------------------


class Harmful:
    """Whose unpickling would make a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CREATE = "open('harm', 'w')"
HARMFUL = {
    f"{os.system.__module__}.system": pickle.dumps(Harmful(os.system, "touch harm")),
    "builtins.eval": pickle.dumps({"ema": Harmful(eval, CREATE)}),
    "builtins.exec": pickle.dumps([1, Harmful(exec, CREATE)], protocol=4),
    "io.open": pickle.dumps(Harmful(open, "harm", "w")),
    "subprocess.Popen": pickle.dumps(Harmful(subprocess.Popen, ["touch", "harm"])),
    "builtins.getattr": pickle.dumps(Harmful(getattr, "", "__class__")),
    "builtins.__import__": pickle.dumps(Harmful(builtins.__import__, "os")),
    "numpy.load": pickled(Call(Name("numpy", "load"), ("harm",))),
    "torch.load": pickled(Call(Name("torch", "load"), ("harm",))),
    "torch._utils._rebuild_tensor_v2.__globals__": pickled(
        Name("torch._utils", "_rebuild_tensor_v2.__globals__")
    ),
    "posix.system in a zip": zipped({"a": COUNT, "b": Call(Name("posix", "system"), ("touch harm",))}),
    "posix.system in a legacy file": legacy([COUNT, Call(Name("posix", "system"), ("touch harm",))]),
    "posix.system in a storage": pickled(
        Call(
            Name("torch.storage", "_load_from_bytes"),
            (
                Call(
                    Name("_codecs", "encode"),
                    (legacy([Call(Name("posix", "system"), ("touch harm",))]).decode("latin1"), "latin1"),
                ),
            ),
        )
    ),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_a_foreign_name_is_refused_and_not_called(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"asks for _?{name.split(' ')[0]}, .*nothing of it was executed$"):
        read(tmp_path, HARMFUL[name])
    assert not (tmp_path / "harm").exists()


def test_a_harmful_pickle_would_have_done_harm(tmp_path, monkeypatch):
    """The test above tests something."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(HARMFUL["builtins.eval"])
    assert (tmp_path / "harm").exists()


def test_the_names_that_are_known_cannot_be_changed(tmp_path):
    """A pickle may set attributes of what it has got hold of; here nothing takes them."""
    for module, name in (full.rsplit(".", 1) for full in pickles.NAMES):
        data = b"c" + f"{module}\n{name}\n".encode() + b"(N(dVcall\nI1\nsVbuild\nI1\nstb."
        with pytest.raises(ValueError, match=r"x.pth: "):
            read(tmp_path, data)
    assert read(tmp_path, zipped([COUNT]))


DAMAGED = {
    "empty": (b"", "it is empty"),
    "web page": (b"<!DOCTYPE html><html><body>Not found</body></html>", "it is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "pointer of Git LFS"),
    "safetensors": ((72).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}', "it is a safetensors file"),
    "text": (b"a checkpoint", "it is no checkpoint"),
    "another zip": (None, "torch.save has not written it"),
    "legacy version": (b"".join(map(pickled, [0x1950A86A20F9469CFC6C, 900, {}])), "not supported"),
    "big-endian": (None, "big-endian"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_that_is_no_checkpoint_says_what_it_seems_to_be(tmp_path, monkeypatch, name):
    data, said = DAMAGED[name]
    if name == "another zip":
        np.savez(tmp_path / "x.npz", a=COUNT)
        data = (tmp_path / "x.npz").read_bytes()
    if name == "big-endian":
        monkeypatch.setattr("tests.importers.files.ORDER", "big")
        data = zipped([COUNT])
    with pytest.raises(ValueError, match=f"x.pth: .*{said}") as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value)


WHOLE = {
    "zip": zipped([COUNT, {"a": 1}]),
    "legacy": legacy([COUNT, {"a": 1}]),
    "snapshot": (PUBLISHED / "edm2_snapshot-0002048-0.100.pkl").read_bytes(),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("part", [0.03, 0.3, 0.7, 0.98])
def test_a_file_that_ends_early_is_one_line(tmp_path, name, part):
    with pytest.raises(ValueError, match=r"x.pth: it (is|refers)") as caught:
        read(tmp_path, WHOLE[name][: int(part * len(WHOLE[name]))])
    assert "\n" not in str(caught.value)
