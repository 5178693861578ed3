"""A model process without Keras, started as a program: notes what it is asked in a file, and dies where a test says.

`FAKE_MODELS` is a folder: `asked` has a line for each request, and a file named after a request, e.g. `Evaluate`, holds
how many more processes that request kills; after one named `…-hangs` or `…-endless` it is never answered, the latter at
the cost of processor time.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from lanfit.core.child import Parent
from lanfit.core.processor_time import limit_processor_time
from lanfit.transfer.blocks import ArrayFile
from lanfit_server.models.handle import (
    Compile,
    Compiled,
    Done,
    Evaluate,
    Loaded,
    LoadedInput,
    LoadedOutput,
    LoadModel,
    Metrics,
    Reply,
    Request,
)

FOLDER = "FAKE_MODELS"


def answer(request: Request) -> Reply:
    match request:
        case LoadModel(path, weights, _):
            value = float(Path(path).read_text("ascii"))
            block = ArrayFile.write(Path(weights), {"w": np.full(3, value)})
            inputs, outputs = (LoadedInput("x", (None, 3)),), (LoadedOutput("y", (None, 3)),)
            return Loaded("{}", "", "", inputs, outputs, 3, block, ())
        case Compile():
            return Compiled("{}", "mse")
        case Evaluate():
            return Metrics({"loss": 1.0})
        case _:
            return Done()


def main() -> None:
    folder = Path(os.environ[FOLDER])
    parent: Parent[Request] = Parent(Request)
    while True:
        request = parent.receive()
        name = type(request).__name__
        with (folder / "asked").open("a") as asked:
            asked.write(f"{name}\n")
        if (folder / f"{name}-hangs").exists():
            continue  # it never answers
        deadly = folder / name
        if deadly.exists() and (left := int(deadly.read_text("ascii"))):
            deadly.write_text(str(left - 1))
            sys.stderr.write(f"killed by {name}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        if (folder / f"{name}-endless").exists():
            with limit_processor_time(0.01):
                while True:
                    pass
        parent.send(answer(request))


if __name__ == "__main__":
    main()
