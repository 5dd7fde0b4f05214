"""Writes a model in the safetensors format: 8 bytes of header length, a JSON header, tensors."""

import json
import os
import struct
import sys

MIB = 1 << 20


def header(size_bytes: int) -> bytes:
    """Header of a model with one F32 tensor of `size_bytes`, padded to 8 bytes as the format asks."""
    tensor = {"dtype": "F32", "shape": [size_bytes // 4], "data_offsets": [0, size_bytes]}
    text = json.dumps({"__metadata__": {"format": "pt"}, "layers.0.weight": tensor}).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write(path: str, size_bytes: int, *, sparse: bool = False) -> None:
    """Writes the model; sparse ones read as zeros and take no room on disk."""
    with open(path, "wb") as file:
        file.write(header(size_bytes))
        if sparse:
            file.truncate(file.tell() + size_bytes)
            return
        block = os.urandom(MIB)
        for _ in range(size_bytes // MIB):
            file.write(block)


def check(path: str) -> int:
    """Bytes of the tensors; raises ValueError where the file is no safetensors file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        tensors = json.loads(file.read(length))
        data_bytes = os.path.getsize(path) - 8 - length
    end = max(t["data_offsets"][1] for name, t in tensors.items() if name != "__metadata__")
    if end != data_bytes:
        raise ValueError(f"{path}: tensors end at {end}, the file has {data_bytes} bytes of data")
    return data_bytes


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]) * MIB, sparse=True)
    check(sys.argv[1])
