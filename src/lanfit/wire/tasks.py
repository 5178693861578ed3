"""The parts of a task as they are sent in messages: the model, the selection of rows, and the requested backend."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from lanfit.wire.texts import BlockId, Data, FileName, Line, ShortText, Word

#: The maximum size of the JSON of a model and of its compile options together, in bytes: it is sent in a control
#: message.
LARGEST_ARCHITECTURE = 900 * 1024


class CustomFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Python file with custom objects, which each side has itself: the file is never sent."""

    name: FileName
    sha256: BlockId


#: The maximum number of files with custom objects that a model may need and a client may allow.
MOST_CUSTOM = 16
CustomFiles = Annotated[tuple[CustomFile, ...], msgspec.Meta(max_length=MOST_CUSTOM)]


Shape = tuple[int | None, ...]
"""As in Keras: rows come first, None is any size."""
#: The names of the arrays of a model with one input and one output.
X, Y = "x", "y"
#: The most inputs of a model, and the most outputs.
MOST_ARRAYS = 64


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input array of a model."""

    name: ShortText
    shape: Shape
    normalizer: Word = "none"
    """The name of the normalizer; its constants are sent with the shard."""
    ids: int | None = None
    """The number of ids of an Embedding that takes this input itself: 0 … ids - 1; None without one."""


class OutputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One output array of a model."""

    name: ShortText
    shape: Shape
    target: Word
    """How the target is made from rows: see lanfit.data.labels."""
    normalizer: Word = "none"
    """The name of the normalizer of numeric targets."""
    ignored: int | None = None
    """The label that the loss leaves out (`ignore_class`)."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model without its weights, and its prediction task."""

    architecture: Data
    """JSON of the model; only known layers are built."""
    compile: Data
    """JSON: optimizer, loss and metrics, as lanfit.models.compiling reads them."""
    input_shape: tuple[int | None, ...]
    """As in Keras, with the batch as the first dimension; likewise for the output."""
    output_shape: tuple[int | None, ...]
    target: Word
    """How the model's target is made from rows: see lanfit.data.labels."""
    normalizer: Word
    """The name of the normalizer; its constants are sent with the shard."""
    target_normalizer: Word
    """The same for numeric targets."""
    custom: CustomFiles = ()
    """The files that define custom layers, losses, metrics and activations."""
    objects: tuple[ShortText, ...] = ()
    """The names of the definitions that are used."""
    ending: Literal[".h5", ".keras"] = ".h5"
    """The extension of files with its weights: `.keras` if an .h5 can't store it."""
    ids: int | None = None
    """The number of ids of an Embedding that takes the input itself: 0 … ids - 1; None without one."""
    ignored: int | None = None
    """The label that the loss ignores (`ignore_class`)."""
    inputs: tuple[InputSpec, ...] = ()
    """The input arrays in the model's order; empty: one, which the fields above describe."""
    outputs: tuple[OutputSpec, ...] = ()
    """The output arrays; empty: one. Both are empty, or neither is."""

    @property
    def takes(self) -> tuple[InputSpec, ...]:
        """Every input. The only one of a model of one input and one output is called `X`."""
        return self.inputs or (InputSpec(X, self.input_shape, self.normalizer, self.ids),)

    @property
    def gives(self) -> tuple[OutputSpec, ...]:
        """Every output, likewise; the only one is called `Y`."""
        if self.outputs:
            return self.outputs
        return (OutputSpec(Y, self.output_shape, self.target, self.target_normalizer, self.ignored),)


class ClientData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a client selects rows from its own files, which are never sent."""

    batch_size: int
    test_split: float
    validation_split: float
    """With folds, as a fraction of each fold's training rows."""
    folds: int
    """0: none."""
    seed: int
    npz_key: Line | None
    parts_of: int = 0
    """The number of parts into which the rows that are not test rows are divided; 0: the client trains on all of
    them."""
    first_part: int = 0
    """From 1, like `last_part`, which is included."""
    last_part: int = 0
    decimal: ShortText | None = None
    """The number format of text files, as in the job; None: detected."""
    thousands: ShortText | None = None


class Fold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Train on all folds of the shard except one, which is then used for evaluation."""

    number: int
    """From 1."""
    of: int
    seed: int
    """The seed of the folds."""
    validation_split: float
    """The fraction of the fold's training rows that is used to select its best epoch."""
    few: bool = False
    """A class may have fewer rows than there are folds, because the label skew is intended."""


class Runtime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The requested backend, device and threads. Empty or 0: the client's default."""

    backend: Word = ""
    device: Word = ""
    threads: int = 0
