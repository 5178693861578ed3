"""What a disk does to a file, by name: for tests that go through every kind of damage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path, position: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": _cut,
    "flipped": lambda path: flip(path, path.stat().st_size // 2),
}
