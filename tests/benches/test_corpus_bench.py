"""The bench that opens what people have: it counts what loads, and notices what is read in another way."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


def bench(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the bench, with its temporary files in this folder."""
    (temporary := folder / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, BENCH / "corpus.py", *arguments]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert list(temporary.iterdir()) == []
    return done


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, found)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    return module("corpus", monkeypatch)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    return module("corpus_tables", monkeypatch)


# --- models ---


@pytest.mark.story
def test_models_that_load_that_are_refused_and_that_predict_something_else_are_distinguished(tmp_path: Path) -> None:
    import h5py

    (folder := tmp_path / "models").mkdir()
    for name, version in (("fine.h5", "3.13.0"), ("old.h5", "2.15.0")):
        shutil.copy(BENCH.parent / "model" / "digits.h5", folder / name)
        with h5py.File(folder / name, "a") as file:
            file.attrs["keras_version"] = version
    with h5py.File(folder / "alone.weights.h5", "w") as file:
        file["w"] = [1.0]
    with zipfile.ZipFile(folder / "lambda.keras", "w") as archive:
        layer = {"class_name": "Lambda", "module": "keras.layers", "registered_name": None, "config": {"name": "a"}}
        config = {"class_name": "Sequential", "module": "keras", "registered_name": None, "config": {"layers": [layer]}}
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.13.0"}))
        archive.write(folder / "alone.weights.h5", "model.weights.h5")
    (folder / "damaged.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    (folder / "notes.txt").write_text("no model")
    # A Keras 2 that predicts something else than lanfit: what a loader that reads a file wrongly looks like.
    other = tmp_path / "keras2"
    other.write_text(f"#!{sys.executable}\n" + textwrap.dedent(FAKE))
    other.chmod(0o755)

    done = bench(tmp_path, folder, "--only", "models", "--keras2", other, "--json", tmp_path / "found.json")

    found = json.loads((tmp_path / "found.json").read_text())["models"]
    assert {Path(each["path"]).name: each["status"] for each in found} == {
        "alone.weights.h5": "no whole model",
        "damaged.h5": "no whole model",
        "fine.h5": "loads",
        "lambda.keras": "by design",
        "old.h5": "DIFFERENT",
    }, done.stdout + done.stderr
    assert done.returncode == 1
    assert "MODELS  3 whole models" in done.stdout
    assert "what Keras predicts      1 of 3   33.3%" in done.stdout
    assert "predicts something else than Keras: 1\n    old.h5" in done.stdout


FAKE = """
    import json, sys
    import numpy as np
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if not request["path"].endswith("old.h5"):
            print(json.dumps({"loads": False}), flush=True)
            continue
        x, y = (f"{request['folder']}/{name}.npy" for name in "xy")
        np.save(x, np.zeros((4, 8, 8, 1), "float32"))
        np.save(y, np.full((4, 10), 7, "float32"))
        print(json.dumps({"loads": True, "shape": [8, 8, 1], "x": x, "y": y}), flush=True)
"""


def test_a_process_that_dies_or_hangs_costs_one_file(corpus: Any) -> None:
    code = """if True:
        import sys
        print("ready", flush=True)
        for line in sys.stdin:
            if "bad" in line:
                sys.exit(9)
            if "good" in line:
                print({}, flush=True)
    """
    child = corpus.Child(sys.executable, "-c", code, seconds=60)
    try:
        assert child.ask(path="good") == {}
        assert child.ask(path="bad") == {"code": "bench.died", "message": "the process ended with 9"}
        assert child.ask(path="good") == {}
        child._seconds = 0.5
        assert child.ask(path="hangs")["code"] == "bench.too-slow"
        child._seconds = 60
        assert child.ask(path="good") == {}
    finally:
        child.end()


def test_for_a_file_of_keras_2_the_predictions_of_keras_2_count(corpus: Any) -> None:
    same = {"loads": True, "shape": True, "difference": 0.0, "scale": 1.0}
    other = {**same, "difference": 0.1}
    assert corpus.assess("2.2.4", {"keras": other, "keras2": same}) == "loads"
    assert corpus.assess("2.2.4", {"keras": same, "keras2": other}) == "DIFFERENT"
    assert corpus.assess("3.3.3", {"keras": same, "keras2": other}) == "loads"
    assert corpus.assess("2.2.4", {"keras": same, "keras2": {"loads": False}}) == "loads"
    assert corpus.assess("2.2.4", {"keras": {"loads": False}}) == "loads, no reference"
    assert corpus.assess("2.2.4", {"keras": {**other, "shape": False}, "keras2": same}) == "loads"
    assert corpus.assess("2.2.4", {"keras": same, "keras2": {"loads": True, "shape": False}}) == "DIFFERENT"


def test_a_refusal_counts_as_the_true_one_only_if_it_names_the_cause(corpus: Any) -> None:
    lambda_named = corpus.Found("net.h5", "", "model.refused-class", "layer 'a': the class Lambda is not accepted")
    renamed = corpus.Found(
        "net.h5", "", "model.unknown-kind", "net.hdf5: a file with the extension '.hdf5' is not a model"
    )
    assert corpus.named(["Lambda"], lambda_named)
    assert not corpus.named(["Lambda"], renamed)
    assert not corpus.named([], lambda_named)


def test_a_class_that_keras_does_not_know_is_the_authors_own(corpus: Any) -> None:
    new = {
        "message": "Unknown layer: 'SimpleAttention'. Please ensure you are using a `keras.utils.custom_object_scope`"
    }
    old = {"message": "Unrecognized keyword arguments: ['batch_shape']"}
    assert corpus.own_classes([new, old]) == ["SimpleAttention"]
    assert corpus.own_classes([new, {"loads": True}]) == []
    assert corpus.own_classes([]) == []


# --- tables ---


@pytest.mark.story
def test_tables_that_are_read_and_that_are_refused_are_counted(tmp_path: Path) -> None:
    (folder := tmp_path / "tables").mkdir()
    (folder / "numbers.csv").write_text("a,b\n1,2.5\n3,4\n5,6\n")
    (folder / "words.csv").write_text("a,b\n1,red\n3,blue\n5,red\n")

    done = bench(tmp_path, folder, "--only", "tables", "--json", tmp_path / "found.json")

    found = json.loads((tmp_path / "found.json").read_text())["tables"]
    assert [(each["status"], each["facts"].get("pandas")) for each in found] == [("taken", "equal"), ("refused", None)]
    assert found[1]["code"].startswith("csv.")
    assert "TABLES  2 tables" in done.stdout, done.stdout + done.stderr
    assert "read as it is                                1 of 2   50.0%" in done.stdout
    assert done.returncode == 0


def test_a_value_that_pandas_reads_in_another_way_is_noticed(tables: Any, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text('price,rooms\n"1,200",3\n950,2\n')
    thousandth = np.array([[1.2, 3], [950, 2]], np.float32)
    assert tables.compare(path, thousandth, ("price", "rooms"), ())["pandas"] == "silent"
    assert tables.compare(path, thousandth, ("price", "rooms"), ("read with decimal comma",))["pandas"] == "announced"
    path.write_text("price,rooms\n1200,3\n950,2\n")
    found = tables.compare(path, thousandth, ("price", "rooms"), ())
    assert found["pandas"] == "differs"
    assert "1 values, the first in row 1" in found["how"]
    assert (
        tables.compare(path, np.array([[1200, 3], [950, 2]], np.float32), ("price", "rooms"), ())["pandas"] == "equal"
    )


def test_ids_that_become_the_same_in_float32_need_a_note(tables: Any, tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("id,a\n100000001,1\n100000002,2\n")
    read = np.array([[100000001, 1], [100000002, 2]], np.float32)
    assert tables.compare(path, read, ("id", "a"), ())["pandas"] == "silent"
    assert tables.compare(path, read, ("id", "a"), ("large ids become the same",))["pandas"] == "equal"
