"""How fast are files read, and in how much memory? Ratios against the usual readers, measured in one run.

    python bench/files.py

xlsx: 20,000 × 30 against openpyxl (at least 4 times as fast). csv: 200,000 × 50 to float32 against pandas' C engine,
both on one core (at most 1.1 times its time); and on all cores, where pandas has the whole file in memory twice, as we
must not. Several files: read at the same time against one after the other. Memory: the peak of a process that prepares
one large file into mapped arrays, less what it had before, over the size of the file's array (at most 1.5). Needs some
700 MB of temporary disk, and a few minutes.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from lanfit.data.files import open_file
from lanfit.data.labels import Target
from lanfit.data.prepare import DataRequest, prepare
from lanfit.data.threads import in_order
from lanfit.wire.tasks import InputSpec, OutputSpec, X, Y

ROUNDS = 9
NAMES = [f"column {n}" for n in range(50)]


def seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def compare(what: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of the ratios ours/theirs; the two take turns, so that both meet the same noise."""
    ours()  # imports, and the system's cache
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    a, b = (median(times) for times in zip(*pairs, strict=True))
    print(f"{what:<44} {a:7.3f} s  against {b:7.3f} s   ratios {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    return median(ratios)


def write_xlsx(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(NAMES[:30])
    for row in np.random.default_rng(0).normal(size=(20_000, 30)).tolist():
        sheet.append(row)
    book.save(path)


def read_with_openpyxl(path: Path) -> np.ndarray:
    import openpyxl

    sheet = openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets[0]
    return np.array(list(sheet.iter_rows(min_row=2, values_only=True)), np.float32)


def write_csv(path: Path, rows: int = 200_000) -> None:
    import pandas

    x = np.random.default_rng(0).normal(size=(rows, 50)).astype(np.float32)
    pandas.DataFrame(x, columns=NAMES).to_csv(path, index=False)


def read_with_pandas(path: Path) -> np.ndarray:
    import pandas

    return pandas.read_csv(path).to_numpy(np.float32)


def read(path: Path) -> np.ndarray:
    return open_file(path).read_all()


def prepare_mapped(folder: Path) -> None:
    """What a server does with one file: cut it into shards in mapped arrays."""

    def allocate(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        path = folder / f"{name}.block"
        return np.memmap(path, dtype, "w+", shape=shape) if np.prod(shape) else np.empty(shape, dtype)

    chunk = open_file(next((folder / "X").iterdir()))
    shape = (None, *chunk.shape[1:])
    prepare(
        DataRequest(
            x_dir=folder / "X", y_dir=None, inputs=(InputSpec(X, shape, "zscore"),),
            outputs=(OutputSpec(Y, shape, Target.INPUT),), shards=2, batch_size=32, test_split=0.2,
            validation_split=0.1, seed=0,
        ),
        allocate,
    )  # fmt: skip


def private_memory() -> int:
    """Bytes of this process that no file backs; mapped arrays are the system's to write out. Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024


def child(folder: Path) -> None:
    """Prepare once small (imports), then measured; print peak growth over the array's size."""
    prepare_mapped(folder / "small")
    before, peak, done = private_memory(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, private_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    prepare_mapped(folder / "large")
    done.set()
    watcher.join()
    print((peak - before) / open_file(next((folder / "large" / "X").iterdir())).nbytes)


def csv(path: Path, where: str, limit: float | None = None) -> bool:
    ratio = compare(f"csv 200,000 × 50 against pandas, {where}", lambda: read(path), lambda: read_with_pandas(path))
    good = limit is None or ratio <= limit
    print(f"{'':<44} {ratio:.2f} times its time   {verdict(good) + f' (at most {limit})' if limit else ''}")
    return good


@contextmanager
def one_core() -> Iterator[None]:
    """Pin this process, and what it starts meanwhile, to one of its cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def memory(what: str, write: Callable[[Path, int], None], name: str, rows: int, folder: Path) -> bool:
    for size, count in (("small", 1000), ("large", rows)):
        (folder / size / "X").mkdir(parents=True)
        write(folder / size / "X" / name, count)
    result = subprocess.run([sys.executable, __file__, str(folder)], capture_output=True, text=True, check=True)
    share = float(result.stdout)
    print(f"{what:<44} peak {share:5.2f} × the array   {verdict(share <= 1.5)} (at most 1.5)")
    return share <= 1.5


def save_npz(save: Callable[..., None], column_major: bool = False) -> Callable[[Path, int], None]:
    def write(path: Path, rows: int) -> None:
        x = np.random.default_rng(0).integers(0, 9, (rows, 28, 28)).astype(np.float32)
        save(path, np.asfortranarray(x) if column_major else x)

    return write


def verdict(good: bool) -> str:
    return "ok" if good else "TOO MUCH"


def main() -> int:
    sys.stdout.reconfigure(line_buffering=True)  # its children print, too
    print(f"python bench/files.py   {time.strftime('%Y-%m-%d')}   {platform.machine()}, {os.cpu_count()} cores, "
          f"{platform.system()}, Python {platform.python_version()}\n")  # fmt: skip
    good = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_xlsx(folder / "x.xlsx")
        ratio = compare("xlsx 20,000 × 30 against openpyxl", lambda: read(folder / "x.xlsx"),
                        lambda: read_with_openpyxl(folder / "x.xlsx"), 3)  # fmt: skip
        good.append(ratio <= 1 / 4)
        print(f"{'':<44} {1 / ratio:.1f} times as fast   {verdict(good[-1])} (at least 4)")
        write_csv(folder / "x.csv")
        with one_core():  # what is started in it has one core, and counts its cores at its start
            command = [sys.executable, __file__, "csv", str(folder / "x.csv")]
            good.append(subprocess.run(command, check=False).returncode == 0)
        csv(folder / "x.csv", "all cores")
        several = {"csv": [], "deflated npz": [], "xlsx": []}
        x = np.random.default_rng(0).integers(0, 9, (8_000, 28, 28)).astype(np.float32)
        for number in range(4):
            write_csv(folder / f"part-{number}.csv", 30_000)
            np.savez_compressed(folder / f"part-{number}.npz", x)
            several["csv"].append(folder / f"part-{number}.csv")
            several["deflated npz"].append(folder / f"part-{number}.npz")
            several["xlsx"].append(folder / "x.xlsx")
        for kind, paths in several.items():
            ratio = compare(f"four {kind} files at the same time",
                            lambda paths=paths: in_order(read, paths),
                            lambda paths=paths: [read(path) for path in paths], 3)  # fmt: skip
            print(f"{'':<44} {ratio:.2f} times the time of one after the other")
        if Path("/proc/self/status").exists():
            stored, deflated = save_npz(np.savez), save_npz(np.savez_compressed)
            good.append(memory("memory: npz, stored, 157 MB", stored, "x.npz", 50_000, folder / "stored"))
            good.append(memory("memory: npz, deflated, 157 MB", deflated, "x.npz", 50_000, folder / "deflated"))
            turned = save_npz(np.savez, column_major=True)
            good.append(memory("memory: npz, column-major, 157 MB", turned, "x.npz", 50_000, folder / "turned"))
            good.append(memory("memory: csv, 40 MB as float32", write_csv, "x.csv", 200_000, folder / "csv"))
    return 0 if all(good) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["csv"]:
        sys.exit(not csv(Path(sys.argv[2]), "one core", 1.1))
    elif len(sys.argv) > 1:
        child(Path(sys.argv[1]))
    else:
        sys.exit(main())
