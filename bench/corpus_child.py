"""One of the processes of bench/corpus.py: opens the files that it is told of, one after another, and says what came.

    python bench/corpus_child.py lanfit | keras | tables

Says "ready", then reads requests from stdin and answers on stdout, one line of JSON each. "keras" imports nothing but
Keras, h5py and NumPy, so that another interpreter with an older Keras can run it as a second reference. What it answers
about a file is never an exception: a file that nothing can be made of is an ordinary finding here.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

ROWS = 4
#: What takes the place of a dimension that the model leaves open, by the rank of a row.
OPEN = {1: 10, 2: 10, 3: 64, 4: 16}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # Keras prints to stdout
    answer = {"lanfit": lanfit_answers, "keras": keras_answers, "tables": table_answers}[sys.argv[1]]()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            output = answer(request)
        except Exception as error:  # noqa: BLE001 - a file can trigger anything
            code, hint = getattr(error, "code", "") or f"traceback:{type(error).__name__}", getattr(error, "hint", "")
            output = {"code": code, "message": first_lines(error), "hint": hint}
        print(json.dumps(output), file=answers, flush=True)


def first_lines(error):
    return " ".join(str(error).split())[:600] or type(error).__name__


def limit(size):
    """What a file makes a process take is bounded where the system can do that."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    size = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, hard))


def lanfit_answers():
    """What `lanfit server` makes of a model: its own loader, and the model as it travels to a client."""
    from lanfit.models.runtime import prepare_keras

    prepare_keras("tensorflow", threads=1, device="cpu")
    import keras

    from lanfit.models.architecture import build
    from lanfit.models.loading import load_model
    from lanfit.models.weights import set_weights

    def answer(request):
        keras.backend.clear_session()
        loaded = load_model(Path(request["path"]))
        model = build(loaded.architecture)
        set_weights(model, loaded.weights)
        shape = [None if size is None else int(size) for size in model.inputs[0].shape[1:]]
        predicted, moved = {}, {}
        for name, rows in request["rows"].items():
            x = np.load(rows, allow_pickle=False)
            if fits(x.shape[1:], shape):
                y = np.asarray(model(x, training=False))
                predicted[name] = put(y, request["folder"])
                # Some recurrent models are chaotic: the last bit of a row changes all that comes.
                moved[name] = float(np.abs(np.asarray(model(np.nextafter(x, x + 1), training=False)) - y).max())
        notes = [str(note) for note in getattr(loaded, "notes", ())]
        found = {"loads": True, "shape": shape, "predicted": predicted, "moved": moved}
        return {**found, "compiled": loaded.compile or "", "notes": notes}

    limit(request_limit())
    return answer


def keras_answers():
    """What plain Keras makes of a model, without what it was compiled with."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import keras

    limit(request_limit())

    def answer(request):
        keras.backend.clear_session()
        try:
            model = keras.models.load_model(request["path"], compile=False, safe_mode=True)
        except Exception as error:  # noqa: BLE001 - a file can trigger anything
            name = type(error).__name__
            return {"version": keras.__version__, "code": f"keras:{name}", "message": first_lines(error)}
        found = {"version": keras.__version__}
        if len(model.inputs or ()) != 1 or len(model.outputs or ()) != 1:
            return {**found, "loads": True, "arrays": [len(model.inputs or ()), len(model.outputs or ())]}
        try:
            return {**found, **predictions(model, request)}
        except Exception as error:  # noqa: BLE001 - a file can trigger anything
            return {**found, "loads": True, "message": first_lines(error)}

    return answer


def request_limit():
    return int(sys.argv[2]) if len(sys.argv) > 2 else 6 << 30


def predictions(model, request):
    """The model's predictions on random rows, both in files."""
    shape = [None if size is None else int(size) for size in model.inputs[0].shape[1:]]
    x = random_rows(model, shape)
    y = np.asarray(model(x, training=False))
    return {"loads": True, "shape": shape, "x": put(x, request["folder"]), "y": put(y, request["folder"])}


def fits(row, shape):
    return len(row) == len(shape) and all(size in (None, given) for size, given in zip(shape, row, strict=True))


def put(array, folder):
    handle, path = tempfile.mkstemp(suffix=".npy", dir=folder)
    with os.fdopen(handle, "wb") as file:
        np.save(file, array, allow_pickle=False)
    return path


def random_rows(model, shape):
    row = [OPEN.get(len(shape), 8) if size is None else size for size in shape]
    random = np.random.default_rng(0)
    ids = [layer["config"]["input_dim"] for layer in objects(model.get_config()) if layer["class_name"] == "Embedding"]
    if ids:
        return random.integers(0, min(ids), (ROWS, *row)).astype("float32")
    return random.random((ROWS, *row), dtype="float32")


def objects(value):
    """Every object of a configuration, however deep."""
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str) and isinstance(value.get("config"), dict):
            yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from objects(item)


def table_answers():
    """What lanfit reads in a table, and whether pandas has the same values."""
    from corpus_tables import compare, compare_prepared

    from lanfit.data.files import open_file

    limit(request_limit())

    def answer(request):
        path = Path(request["path"])
        if "prepared" in request:
            return compare_prepared(path, Path(request["prepared"]))
        chunk = open_file(path)
        array = chunk.read_all()
        notes = [*chunk.notes, *getattr(chunk, "said_of_merged", ())]  # the latter is known once the rows are read
        return {"loads": True, "notes": notes, **compare(path, array, chunk.columns, notes)}

    return answer


if __name__ == "__main__":
    main()
