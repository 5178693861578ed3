"""What people put into files: settings, tables, arrays, sheets, images."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import re
import tomllib
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from fuzzing.base import Base, Chance, Targets
from fuzzing.engine import corrupt, corrupt_zip, zip_of
from lanfit.data import reader_process
from lanfit.data.files import open_file, read_labels
from lanfit.data.images import Size, look_at, read_image
from lanfit.data.npz import array_names
from lanfit.errors import LanfitError
from lanfit.settings.fields import Field, read_file
from lanfit.settings.job import DEFAULTS, FIELDS, make_job, to_toml
from lanfit_client.settings import SETTINGS as CLIENT_SETTINGS
from lanfit_client.settings import settings_file as client_settings_file
from lanfit_server.prepare_data.text_tables import read_text_table
from lanfit_server.start.prompts import SETTINGS as SERVER_SETTINGS
from lanfit_server.start.prompts import settings_file as server_settings_file

# --- settings -------------------------------------------------------------------------------------------------------

_TOML = (
    b"[", b"]", b"[[", b'"""', b"'''", b"\\u", b"\\", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"inf", b"nan",
    b"1979-05-27T07:32:00Z", b"0x" + b"f" * 5000, b"9" * 5000, b"[" * 3000, b"{a=" * 500, b"passphrase = 1\n",
    b"= ", b"1e999", b"-1", b"true", b'""', b"\xff\xfe",
)  # fmt: skip


class Settings(Base):
    """A job file, or the settings of one side."""

    def __init__(self, folder: Path, texts: Iterable[str], known: Mapping[str, Field], *, job: bool = False) -> None:
        super().__init__(folder)
        self.texts = [text.encode() for text in texts]
        self.lines = sorted({line for text in self.texts for line in text.splitlines() if b" = " in line})
        self.known, self.is_job = known, job

    def input(self, chance: Chance) -> bytes:
        if chance.random() < 0.5:
            lines = [self.line(chance) for _ in range(chance.choice((1, 1, 2, 5, 12)))]
            data = b"\n".join(lines) + b"\n"
        else:
            data = chance.choice(self.texts)
        return corrupt(chance, data, chance.choice(self.texts), _TOML) if chance.random() < 0.6 else data

    def line(self, chance: Chance) -> bytes:
        key, _, value = chance.choice(self.lines).partition(b" = ")
        match chance.randrange(4):
            case 0:
                value = chance.choice(_VALUES_OF_TOML)
            case 1:
                value = chance.choice(self.lines).partition(b" = ")[2]
            case 2:
                value = (
                    b'"'
                    + value.replace(b'"', b"").replace(b"\\", b"")
                    + chance.choice((b"", b"%", b" GB", b","))
                    + b'"'
                )
        return key + b" = " + value

    def give(self, data: bytes) -> None:
        values = read_file(self.write("a.toml", data), "job file", self.known)
        if self.is_job:
            make_job(values)


_VALUES_OF_TOML = (
    b"0", b"-1", b"1", b"1e400", b"nan", b"inf", b"true", b'""', b'" "', b"[]", b"[1, [2]]", b"{}", b'["a", 1]',
    b"9" * 400, b"9" * 5000, b"1979-05-27", b"07:32:00", b'"\\u0000"', b'"\\u001b[2J"', b'"../x"', b'"1-0"',
    b'"1e99 GB"', b'"99999999999999999999 h"', b'"-5 min"', b'"\xc2\xb2"', b'"\xd9\xa3"', b'"1_0"', b'"nan"',
    b'"inf"',
)  # fmt: skip


def uncommented(text: str) -> str:
    """A settings file in which all settings are set."""
    lines = [
        line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line
        for line in text.splitlines()
    ]
    tomllib.loads("\n".join(lines))
    return "\n".join(lines) + "\n"


# --- rows -----------------------------------------------------------------------------------------------------------

_TABLE = (
    b",", b";", b"\t", b'"', b'""', b"\n", b"\r\n", b"\r", b"\0", b"nan", b"inf", b"1e999", b"-", b"1,5",
    b"1.000,5", b" ", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xe9", b"9" * 400, b"1" * 25, b"2024-01-31",
    b"31/12/24", b"yes", b"#", b"\\", b"'", b"\xe2\x88\x92", b"\xc2\xa0", b"\xd9\xa3", b"1_0", b"0x1F", b"1e5",
    b"\xf0\x9f\x98\x80", b",,,,\n", b"\x1a", b"\xe2\x82\xac 5", b"50%",
)  # fmt: skip


class Rows(Base):
    """A file of rows, read as numbers, as labels and as a table; its first byte says how its name ends."""

    endings: tuple[str, ...]
    table = True

    def give(self, data: bytes) -> None:
        path = self.write("a" + self.endings[data[0] % len(self.endings)], data[1:])
        self.read(path)
        path.unlink()

    def read(self, path: Path) -> None:
        self.all_of(lambda: open_file(path).read_all(), lambda: read_labels(path))
        if self.table:
            self.all_of(lambda: read_text_table(path))


class Csv(Rows):
    """Text: separators, signs, encodings, quotes, and packed."""

    endings = (".csv",) * 6 + (".tsv", ".txt", ".csv.gz", ".csv.zip", ".csv.bz2", ".csv.xz")

    def input(self, chance: Chance) -> bytes:
        place = chance.randrange(len(self.endings))
        data, other = self.text(chance), self.text(chance)
        if chance.random() < 0.9:
            data = corrupt(chance, data, other, _TABLE)
        packed = _pack(self.endings[place], data)
        if packed != data and chance.random() < 0.5:
            packed = corrupt(chance, packed, packed)
        return bytes([place]) + packed

    def text(self, chance: Chance) -> bytes:
        separator, point = chance.choice(((",", "."), (";", ","), ("\t", "."), (" ", "."), (";", "."), ("|", ".")))
        columns = chance.choice((1, 2, 3, 8))
        kinds = [chance.choice("nniwdq") for _ in range(columns)]
        rows = [
            [self.cell(kind, chance).replace(".", point) for kind in kinds] for _ in range(chance.choice((1, 3, 8, 40)))
        ]
        if chance.random() < 0.5:
            rows.insert(
                0, [chance.choice(("a", "b c", "1", "", '"x"', "id")) + str(n) * (n % 3) for n in range(columns)]
            )
        text = chance.choice(("\n", "\r\n")).join(separator.join(row) for row in rows)
        return text.encode(chance.choice(("utf-8",) * 5 + ("utf-8-sig", "utf-16", "latin-1", "cp1252")), "replace")

    def cell(self, kind: str, chance: Chance) -> str:
        match kind:
            case "n":
                return f"{chance.gauss(0, 100):.3f}"
            case "i":
                return str(chance.randrange(-5, 1000))
            case "w":
                return chance.choice(("cat", "dog", "é", "", "nan", "yes"))
            case "d":
                return f"{chance.randrange(1990, 2030)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
            case _:
                return chance.choice(('"a"', '"a""b"', '"1.5"', '"x\ny"'))


def _pack(ending: str, data: bytes) -> bytes:
    match ending.rpartition(".")[2]:
        case "gz":
            return gzip.compress(data, 1, mtime=0)
        case "bz2":
            return bz2.compress(data, 1)
        case "xz":
            return lzma.compress(data, preset=0)
        case "zip":
            return zip_of([("a.csv", data)])
        case _:
            return data


class Npz(Rows):
    """Arrays: the header in its members above all, and the zip around them."""

    endings = (".npz", ".npz", ".npy")
    table = False

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        numbers = np.arange(24.0).reshape(6, 4)
        made: list[dict[str, Any]] = [
            {"x": numbers.astype(dtype)} for dtype in ("f4", "f8", "i8", "u1", "?", ">f4", "f2", "c16")
        ]
        made += [
            {"x": np.asfortranarray(numbers)},
            {"x": numbers, "y": numbers[:, 0]},
            {"y": np.array(["cat", "dog", "é"])},
        ]
        made += [
            {"x": np.array([1, "a", None], object)},
            {"x": np.zeros(2, "f4,i4")},
            {"x": numbers[:0]},
            {"x": np.array(1.0)},
        ]
        self.zips, self.arrays = [], []
        for each in made:
            packed, plain = io.BytesIO(), io.BytesIO()
            np.savez(packed, **each)
            np.save(plain, next(iter(each.values())))
            self.zips.append(packed.getvalue())
            self.arrays.append(plain.getvalue())

    def input(self, chance: Chance) -> bytes:
        place = chance.randrange(len(self.endings))
        if self.endings[place] == ".npy":
            return bytes([place]) + self.header(chance, chance.choice(self.arrays))
        packed = chance.choice(self.zips)
        if chance.random() < 0.3:
            return bytes([place]) + corrupt(chance, packed, chance.choice(self.zips))
        return bytes([place]) + corrupt_zip(chance, packed, lambda name, content: self.header(chance, content))

    def header(self, chance: Chance, content: bytes) -> bytes:
        if chance.random() < 0.5:
            return corrupt(chance, content, chance.choice(self.arrays), _NPY)
        dtype, order = chance.choice(_DTYPES), chance.choice(("True", "False", "0", "None"))
        text = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {chance.choice(_SHAPES)}, }}".encode()
        if chance.random() < 0.3:
            text = corrupt(chance, text, tokens=_NPY)
        return b"\x93NUMPY\x01\x00" + len(text[:60000]).to_bytes(2, "little") + text[:60000] + content[128:]

    def read(self, path: Path) -> None:
        super().read(path)
        self.all_of(lambda: array_names(path), lambda: open_file(path, "x").read_all())


_NPY = (
    b"'descr'", b"'|O'", b"(2**63,)", b"(" * 500, b"9" * 30, b"__import__('os')", b"\\x00", b"'<f8'",
    b"('a', '<f4')", b"-1", b"\x93NUMPY\x03\x00", b"L", b",",
)  # fmt: skip
_DTYPES = (
    "'<f4'", "'<f8'", "'|O'", "'<U3'", "'<U0'", "'|S0'", "'|V8'", "'<M8[ns]'", "'<i3'", "'f'", "None", "[]",
    "[('a', '<f4')]", "'|b1'", "('<f4', (2,))", "'>c16'", "'<U999999999'", "''", "[('a', '<f4', -1)]", "'g'", "{}",
)  # fmt: skip
_SHAPES = (
    "(6, 4)", "(24,)", "()", "(0,)", "(6, 0)", "(10**9,)", "(1000000000, 1000000000)", "(9223372036854775807,)",
    "(-1,)", "(True,)", "(1.5,)", "'x'", "[3]", "(4, 6, 1)", "((1,),)", "(18446744073709551616,)", "(1,) * 17",
    "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)",
)  # fmt: skip


class Xlsx(Rows):
    """Sheets. The reader is native code, which lanfit runs in a process; here it runs in this one."""

    endings = (".xlsx", ".xlsx", ".xlsx", ".xlsm")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.books = [_book(number) for number in range(4)]

    def input(self, chance: Chance) -> bytes:
        book, other = chance.choice(self.books), chance.choice(self.books)
        if chance.random() < 0.15:
            return bytes([0]) + corrupt(chance, book, other)
        change = corrupt_zip(chance, book, lambda name, content: corrupt(chance, content, content, _XML))
        return bytes([chance.randrange(4)]) + change

    def give(self, data: bytes) -> None:
        with mock.patch.object(reader_process, "HERE", zlib.crc32(data) % 1000 != 0):
            super().give(data)

    def as_product(self, data: bytes) -> str:
        """What lanfit makes of an input that ended this process; empty if that is right."""
        with mock.patch.object(reader_process, "HERE", False):
            try:
                super().give(data)
            except LanfitError:
                return ""
            except Exception as error:  # noqa: BLE001
                return repr(error)
        return ""


def _book(number: int) -> bytes:
    import datetime

    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    if number:
        sheet.append(["a", "b", "c"])
    words: list[Any] = ["cat", True, datetime.datetime(2024, 2, 29), None]
    for row in range(5):
        sheet.append([row, row * 0.5, words[number] if number < 3 or row else None])
    if number == 3:
        sheet.merge_cells("A2:B3")
        book.create_sheet("two").append([1])
        sheet.column_dimensions["B"].hidden = True
    packed = io.BytesIO()
    book.save(packed)
    with zipfile.ZipFile(packed) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    now = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    return zip_of([(name, now.sub(b"2026-01-01T00:00:00Z", content)) for name, content in members])


_XML = (
    b'r="XFD1048576"', b"r='A99999999'", b'r="A0"', b'r=""', b't="s"', b't="b"', b't="e"', b't="d"',
    b't="inlineStr"', b"<v>999999999999</v>", b"<v></v>", b"<v>1e999</v>", b"<v>-1</v>",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"&#0;", b"&#x110000;", b"<c/>", b"</row>", b"<row>", b"]]>",
    b"<![CDATA[", b'spans="1:99999"', b'ref="A1:XFD1048576"', b's="9999"', b'xmlns:q="x"', b"q:row", b"\xff",
    b"<f>1+1</f>", b"2958466", b"-657435",
)  # fmt: skip


class Images(Base):
    """Images; the first byte says how the name ends."""

    endings = (".png", ".jpg", ".gif", ".bmp", ".webp", ".tif")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from PIL import Image

        formats = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
        noise = np.random.default_rng(0).integers(0, 256, (9, 12, 4), np.uint8)
        colours = Image.fromarray(noise)
        self.made: list[tuple[int, bytes]] = []
        for place, kind in enumerate(formats):
            for mode in ("L", "RGB", "RGBA", "P", "1", "CMYK", "I;16", "F"):
                packed, exif = io.BytesIO(), Image.Exif()
                exif[0x0112] = 6
                with contextlib.suppress(OSError, ValueError, KeyError):  # this format has no such mode
                    extra: dict[str, Any] = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
                    source = colours.convert("I").convert(mode) if mode == "I;16" else colours.convert(mode)
                    source.save(packed, kind, **extra)
                    self.made.append((place, packed.getvalue()))

    def input(self, chance: Chance) -> bytes:
        place, data = chance.choice(self.made)
        return bytes([place]) + corrupt(chance, data, chance.choice(self.made)[1], _IMAGE)

    def give(self, data: bytes) -> None:
        path = self.write("a" + self.endings[data[0] % len(self.endings)], data[1:])
        look_at(path)
        read_image(path, Size(8, 8, 1 + 2 * (data[-1] % 2)))


_IMAGE = (
    b"IDAT", b"IEND", b"tRNS", b"PLTE", b"eXIf", b"acTL", b"iCCP", b"zTXt", b"\xff\xd8", b"\xff\xc0", b"\xff\xda",
    b"\xff\xe1", b"II*\0", b"MM\0*", b"RIFF", b"VP8X", b"\x21\xf9", b"\x12\x01",
)  # fmt: skip


TARGETS: Targets = {
    "job": (60_000, lambda folder: Settings(folder, [to_toml(DEFAULTS)], FIELDS, job=True)),
    "server-settings": (
        30_000,
        lambda folder: Settings(folder, [uncommented(server_settings_file())], SERVER_SETTINGS),
    ),
    "client-settings": (
        30_000,
        lambda folder: Settings(folder, [uncommented(client_settings_file())], CLIENT_SETTINGS),
    ),
    "csv": (30_000, Csv),
    "npz": (40_000, Npz),
    "xlsx": (15_000, Xlsx),
    "images": (40_000, Images),
}
