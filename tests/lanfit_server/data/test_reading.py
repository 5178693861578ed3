"""The server's files are read in a process of its own: what is found there comes through, and how it ended is told."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from data_requests import changed, data_request

from lanfit.core.memory import limit_memory
from lanfit.core.workspace import Workspace
from lanfit.data import current_file
from lanfit.data.labels import Target
from lanfit.data.normalize import NORMALIZERS
from lanfit.data.partitioning import Partitioning
from lanfit.errors import InputError
from lanfit.settings.job import Job
from lanfit.wire.messages import Fold, Model
from lanfit_server.data import reading
from lanfit_server.data.outline import Outline
from lanfit_server.data.reading import MODULE, ReadRequest, read_data, read_elsewhere, read_files, read_rows
from lanfit_server.start import finalize

ROWS = 60
X = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
KINDS = np.arange(ROWS) % 3
WORDS = {
    "target": Target.CLASSES,
    "output_shape": (None, 3),
}
VALUES = {"target": Target.VALUES, "output_shape": (None, 1)}
#: What differs between requests, and the targets that go with it.
REQUESTS: dict[str, tuple[dict[str, Any], np.ndarray[Any, Any] | None]] = {
    "classes": (WORDS, KINDS),
    "words": (WORDS, np.array(["hen", "cow", "a cat"])[KINDS]),
    "nothing held out": (WORDS | {"test_split": 0.0, "validation_split": 0.0}, KINDS),
    "folds": (WORDS | {"validation_split": 0.0}, KINDS),
    "parts": (WORDS | {"partitioning": Partitioning("parts", parts_of=5)}, KINDS),
    "skewed": (WORDS | {"partitioning": Partitioning("dirichlet", alpha=0.5, least=8)}, KINDS),
    "fewer": (WORDS | {"samples": 30}, KINDS),
    "order XX": ({"target": Target.INPUT, "output_shape": (None, 4)}, None),
    **{f"numbers, {name}": (VALUES | {"normalizer": name, "normalize_targets": name}, X[:, 0]) for name in NORMALIZERS},
}


def request_in(folder: Path, request: dict[str, Any] = WORDS, y: Any = KINDS, folds: Fold | None = None) -> ReadRequest:
    """A request for rows in two npz files each, which it writes."""
    for name, array in (("X", X), ("Y", y)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        if array is not None:
            for number, rows in enumerate(np.split(array, 2), 1):
                np.savez(folder / name / f"{name.lower()}{number}.npz", rows)
    return ReadRequest(
        data_request(
            **{
                "x_dir": folder / "X",
                "y_dir": None if y is None else folder / "Y",
                "input_shape": (None, 4),
                "shards": 2,
                "batch_size": 4,
                "test_split": 0.2,
                "validation_split": 0.1,
                "normalizer": "zscore",
                "seed": 0,
            }
            | request
        ),
        folds,
        folder / "scratch",
    )


def plain(value: Any) -> Any:
    """A value of `Prepared` in parts that can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value


@pytest.mark.parametrize("name", REQUESTS)
def test_all_that_is_known_of_rows_comes_through_to_the_bit(name: str, tmp_path: Path) -> None:
    request, y = REQUESTS[name]
    folds = Fold(1, 3, 0, 0.1) if name == "folds" else None
    data = read_rows(request_in(tmp_path, request, y, folds))
    sent = msgspec.msgpack.encode(Outline.of(data))
    found = msgspec.msgpack.decode(sent, type=Outline).filled(
        lambda spec: data.all.x if spec.name == "x" else data.all.y
    )
    assert plain(found) == plain(data)
    assert data.labels == ({"y": ("a cat", "cow", "hen")} if name == "words" else {})
    assert [shard.train.x.base is not None for shard in found.shards] == [True] * len(data.shards)  # views


def test_rows_with_weights_are_none_of_files(tmp_path: Path) -> None:
    data = read_rows(request_in(tmp_path))
    ones = np.ones(len(data.shards[0].train), np.float32)
    shards = tuple(replace(shard, train=replace(shard.train, weights=ones)) for shard in data.shards)
    for other in (replace(data, shards=shards), replace(data, shared_validation=True)):
        with pytest.raises(ValueError, match="neither weights"):
            Outline.of(other)


@pytest.mark.parametrize("name", ["words", "order XX"])
def test_a_request_and_what_another_process_reads_by_it_are_what_they_are_here(name: str, tmp_path: Path) -> None:
    request, y = REQUESTS[name]
    wanted = request_in(tmp_path / "ä \udcff", request, y)
    sent = msgspec.msgpack.encode(wanted, enc_hook=reading._bytes_of)
    assert msgspec.msgpack.decode(sent, type=ReadRequest, dec_hook=reading._path_of) == wanted
    found = read_elsewhere(wanted)
    assert plain(found) == plain(read_rows(replace(wanted, scratch=tmp_path / "here")))
    assert not found.all.x.flags.writeable


def test_a_job_is_read_by_its_own_words_and_too_few_rows_for_its_folds_are_named(tmp_path: Path) -> None:
    request_in(tmp_path / "dataset")
    workspace = Workspace(tmp_path)
    model = Model("{}", "{}", (None, 4), (None, 3), "classes", "none", "none")
    job = Job(method="kfold", folds=5, batch_size=4, clients=2, test_split=0.2, normalizer="none")
    data = read_data(job, workspace, model, tmp_path / "scratch")
    assert (data.rows, data.train, data.test) == (60, 48, 12)
    with pytest.raises(InputError, match=r"shard 1 of 2 has 24 rows: .*"):
        read_data(msgspec.structs.replace(job, batch_size=20), workspace, model, tmp_path / "scratch")


# --- how it ends ------------------------------------------------------------------------------------------------

#: A sitecustomize, by what is read: does to the reader, at its file, what native code does.
AT = {
    "csv": "import builtins\nreal = __import__\ndef f(name, *a, **k):\n"
    "    if name == 'pandas': {does}\n    return real(name, *a, **k)\nbuiltins.__import__ = f\n",
    "npz": "import zipfile\nreal = zipfile.ZipFile.__init__\ndef f(self, file, *a, **k):\n"
    "    if 'x2' in str(file): {does}\n    real(self, file, *a, **k)\nzipfile.ZipFile.__init__ = f\n",
    "images": "import builtins\nfrom PIL import Image\ndef f(*a, **k): {does}\nImage.open = f\n",
}


def files(folder: Path, kind: str) -> tuple[ReadRequest, str]:
    """A request, and the file at which the reader ends."""
    if kind == "npz":
        return request_in(folder), "x2.npz"
    if kind == "csv":
        for name, array in (("X", X), ("Y", KINDS.reshape(-1, 1))):
            (folder / name).mkdir(parents=True)
            np.savetxt(folder / name / "rows.csv", array, delimiter=",")
        return request_of_files(folder, WORDS), "rows.csv"
    Pillow = pytest.importorskip("PIL.Image")
    for label in ("cat", "dog"):
        (folder / "X" / label).mkdir(parents=True)
        Pillow.new("L", (4, 4)).save(folder / "X" / label / "1.png")
    return request_of_files(folder, WORDS | {"input_shape": (None, 4, 4, 1)}), "1.png"


def request_of_files(folder: Path, request: dict[str, Any]) -> ReadRequest:
    """A request for files that are there."""
    return replace(request_in(folder / "other", request), request=replace(
        request_in(folder / "other", request).request, x_dir=folder / "X", y_dir=folder / "Y"))  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "does", "code", "output"),
    [
        ("csv", "os.abort()", "file.reader-died", "was ended by signal 6"),
        ("csv", "bytearray(1 << 44)", "file.reader-memory", "within"),
        ("npz", "os._exit(3)", "file.reader-died", "ended with exit code 3"),
        ("npz", "bytearray(1 << 44)", "file.reader-memory", "within"),
        ("images", "os.kill(os.getpid(), 9)", "file.reader-killed", "was killed"),
        ("csv", "raise LookupError('odd')", "file.reader-died", "ended with exit code 1 (LookupError: odd)"),
    ],
)
def test_a_file_that_ends_what_reads_it_is_named(
    kind: str, does: str, code: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, name = files(tmp_path / "data", kind)
    (tmp_path / "sitecustomize.py").write_text("import os\n" + AT[kind].format(does=does))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError) as wrong:
        read_files(wanted)
    assert wrong.value.code == code
    assert name in wrong.value.message
    assert output in wrong.value.message
    assert wrong.value.exit_code == 2
    assert wrong.value.hint


def test_of_several_files_that_are_read_at_once_the_one_that_did_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are held until both are open; then one ends the process. Read one at a time, the other one is let go."""
    both = (
        "from lanfit.data import threads\n"
        "        if threads._at_once > 1: both.wait()\n"
        "        if 'x1' in str(file) and threads._at_once > 1: threading.Event().wait()"
    )
    code = (
        "import os, threading, zipfile\nboth = threading.Barrier(2)\nreal = zipfile.ZipFile.__init__\n"
        "def f(self, file, *a, **k):\n"
        f"    if '/X/' in str(file):\n        {both}\n"
        "        if 'x2' in str(file): os.abort()\n"
        "    real(self, file, *a, **k)\nzipfile.ZipFile.__init__ = f\n"
    )
    wanted = request_in(tmp_path / "data")
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError) as wrong:
        read_files(wanted)
    assert wrong.value.code == "file.reader-died"
    assert "x2.npz" in wrong.value.message
    assert "x1.npz" not in wrong.value.message


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what a process has")
def test_a_file_takes_no_memory_of_the_server_and_not_more_than_is_free_of_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    wanted = request_in(tmp_path)
    x = np.asfortranarray(np.zeros((ROWS, 1 << 18), np.float32))  # 63 MB, which are read in one piece
    np.savez_compressed(tmp_path / "X" / "x1.npz", x[: ROWS // 2])
    np.savez_compressed(tmp_path / "X" / "x2.npz", np.asfortranarray(x[ROWS // 2 :]))
    wanted = replace(wanted, request=changed(wanted.request, input_shape=(None, 1 << 18), normalizer="none"))
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert limit_memory(16 << 20)
    try:
        assert read_files(wanted).all.x.shape == (ROWS, 1 << 18)
        with pytest.raises(InputError) as here:
            read_rows(replace(wanted, scratch=tmp_path / "here"))
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    assert here.value.code in ("file.larger-than-memory", "file.reader-memory")
    monkeypatch.setattr("lanfit.data.processes.free_of_machine", lambda: 30 << 20)
    with pytest.raises(InputError) as elsewhere:
        read_files(wanted)
    assert elsewhere.value.code in ("file.larger-than-memory", "file.reader-memory")
    assert ".npz" in elsewhere.value.message


def test_what_is_wrong_with_a_file_is_reported_as_it_is_here(tmp_path: Path) -> None:
    wanted = request_in(tmp_path)
    (tmp_path / "X" / "x1.npz").write_bytes(b"PK\3\4 nothing more")
    raised = []
    for read in (read_rows, read_files):
        with pytest.raises(InputError) as wrong:
            read(wanted)
        raised.append((wrong.value.code, wrong.value.message, wrong.value.hint))
    assert raised[0] == raised[1]
    assert raised[0][0] == "npz.damaged"


def test_reading_that_is_stopped_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That none is left every test is asked for."""
    wanted, _ = files(tmp_path / "data", "npz")
    does = "import threading; threading.Event().wait()"
    (tmp_path / "sitecustomize.py").write_text(AT["npz"].format(does=does))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        read_files(wanted, stop)


def test_a_run_that_is_finished_later_stops_reading_when_it_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def read(*arguments: Any) -> None:
        begun.set()
        arguments[-1].wait()
        ended.set()

    async def cancelled() -> None:
        work = finalize.Finalizer(Workspace(tmp_path), None, tmp_path, lambda text: None)  # type: ignore[arg-type]
        reader = asyncio.create_task(work._read(Job(), None, None))  # type: ignore[arg-type]
        await asyncio.to_thread(begun.wait)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await asyncio.to_thread(ended.wait)

    monkeypatch.setattr(finalize, "read_data", read)
    asyncio.run(cancelled())


def test_the_process_imports_no_more_than_it_needs() -> None:
    heavy = {"asyncio", "pandas", "PIL", "tensorflow", "keras", "rich", "click", "cryptography", "sqlite3"}
    code = f"import sys, {MODULE}; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# --- notes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    monkeypatch.setattr(current_file, "_notes", None)
    monkeypatch.setattr(current_file, "_here", threading.local())
    current_file.note_in(tmp_path / "notes")
    return lambda: current_file.noted(tmp_path / "notes")


def test_the_innermost_file_is_noted_and_forgotten_when_it_was_read(notes: Callable[[], list[str]]) -> None:
    with current_file.reading("folder"):
        assert notes() == ["folder"]
        with current_file.reading("folder/ä.png"):
            assert notes() == ["folder/ä.png"]
        assert notes() == ["folder"]
    assert notes() == []


def test_a_file_stays_noted_after_what_nobody_expects_and_not_after_a_known_error(
    notes: Callable[[], list[str]],
) -> None:
    with pytest.raises(InputError), current_file.reading("known"):
        raise InputError("wrong")
    with pytest.raises(InputError) as wrong, current_file.reading("large.csv"):
        raise MemoryError
    assert (wrong.value.code, notes()) == ("file.reader-memory", [])
    with pytest.raises(LookupError), current_file.reading("folder"), current_file.reading("odd"):
        raise LookupError
    assert notes() == ["odd"]


def test_what_helps_against_too_little_memory_depends_on_the_kind_of_file() -> None:
    assert "empty rows" in current_file.without_memory("a/x.XLSX", 1 << 30).hint
    assert "smaller dtype" in current_file.without_memory("a/x.npz", 1 << 30).hint
