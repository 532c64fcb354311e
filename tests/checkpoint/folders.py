"""What lies in a folder of checkpoints, and how it gets damaged."""


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def contents(folder):
    """Every file below the folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in files(folder)}


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def with_sidecars(*steps):
    """The names of the folders of steps, and of the files of their checksums."""
    return {f"{step}{ending}" for step in steps for ending in ("", ".sums.json")}


def array_file(step):
    """The largest file of a step, in which its arrays are."""
    return max(files(step), key=lambda path: path.stat().st_size)


def flip(path, position=None):
    """One bit of the file: in the middle, or at the position."""
    content = bytearray(path.read_bytes())
    position = len(content) // 2 if position is None else position
    content[position % len(content)] ^= 1 << position % 8
    path.write_bytes(content)
