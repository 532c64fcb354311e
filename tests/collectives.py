"""What a compiled program exchanges between devices, read from its text."""

import re

BYTES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "pred": 1, "f64": 8, "u8": 1, "s64": 8, "u64": 8}


def collectives(text: str) -> list[tuple[str, int]]:
    """(kind, bytes of the result) of every collective in the HLO text, those of tuples added up."""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    found = []
    for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
        sizes = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        found.append((kind, sum(BYTES[dtype] * _product(lengths) for dtype, lengths in sizes)))
    return found


def _product(lengths: str) -> int:
    product = 1
    for length in filter(None, lengths.split(",")):
        product *= int(length)
    return product
