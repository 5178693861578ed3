"""What a task is made of, as it stands in messages: a model, how rows are drawn, what is to compute."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from lanfit.wire.texts import BlockId, Data, FileName, Line, ShortText, Word

#: What the JSON of a model and of how it is compiled may take together, in bytes: it travels in a control message.
LARGEST_ARCHITECTURE = 900 * 1024


class CustomFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Python file with custom objects, which each side has itself: the file never travels."""

    name: FileName
    sha256: BlockId


#: How many files with custom objects a model may need, and a client may allow.
MOST_CUSTOM = 16
CustomFiles = Annotated[tuple[CustomFile, ...], msgspec.Meta(max_length=MOST_CUSTOM)]


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model without its weights, and what it is asked to predict."""

    architecture: Data
    """JSON of the model; only known layers are built."""
    compile: Data
    """JSON: optimizer, loss and metrics, as lanfit.models.compiling reads them."""
    input_shape: tuple[int | None, ...]
    """As Keras has it: the batch comes first. The output's likewise."""
    output_shape: tuple[int | None, ...]
    target: Word
    """How the model's target is made from rows: see lanfit.data.labels."""
    normalizer: Word
    """The name of the normalizer; its constants travel with the shard."""
    target_normalizer: Word
    """The same for targets that are numbers."""
    custom: CustomFiles = ()
    """The files that define layers, losses, metrics and activations that are not Keras' own."""
    objects: tuple[ShortText, ...] = ()
    """The names of what is used of them."""
    ending: Literal[".h5", ".keras"] = ".h5"
    """Of the files with its weights: `.keras` where an .h5 can't hold it."""
    ids: int | None = None
    """An Embedding takes the input itself, and knows the ids 0 … ids - 1; None without one."""
    ignored: int | None = None
    """The label that the loss leaves out (`ignore_class`)."""


class OwnRows(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a client draws the rows of its own files, of which nothing leaves it."""

    batch_size: int
    test_split: float
    validation_split: float
    """With folds, of each fold's training rows."""
    folds: int
    """0: none are wanted."""
    seed: int
    npz_key: Line | None
    parts_of: int = 0
    """Into how many parts the rows that are not for the test are cut; 0: the client trains on all of them."""
    first_part: int = 0
    """From 1; so is `last_part`, which is one of those that the client trains on."""
    last_part: int = 0
    decimal: ShortText | None = None
    """How the numbers of text files are written, as in the job; None: found out."""
    thousands: ShortText | None = None


class Fold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Train on all but one fold of the shard, which is then scored."""

    number: int
    """From 1."""
    of: int
    seed: int
    """What the folds are drawn with."""
    validation_split: float
    """The share of the fold's training rows by which its best epoch is found."""
    few: bool = False
    """A class may have fewer rows than there are folds: labels are skewed on purpose."""


class Runtime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to compute. Empty, or 0: as the client has it."""

    backend: Word = ""
    device: Word = ""
    threads: int = 0
