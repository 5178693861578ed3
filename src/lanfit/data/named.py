"""Maps the arrays of one npz file to the inputs and outputs of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lanfit.core.text import pluralize
from lanfit.data.chunks import Chunk
from lanfit.data.files import is_data
from lanfit.data.labels import Target
from lanfit.data.npz import array_names, open_npz, read_npz_labels
from lanfit.data.sources import Source, gathered
from lanfit.data.text_labels import Labels
from lanfit.errors import lanfit_error
from lanfit.wire.tasks import InputSpec, OutputSpec


@dataclass(frozen=True)
class NamedArrays:
    """The specified names of arrays in a file; empty: those of the model's inputs or outputs."""

    inputs: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


def find_npz(x_dir: Path) -> Path:
    """Return the only npz file next to X and Y; if there is none, the only one in X.

    Raises:
        InputError: there is no npz file, or more than one.
    """
    for folder in (x_dir.parent, x_dir):
        files = sorted(path for path in _files_in(folder) if path.suffix.lower() == ".npz" and is_data(path))
        if len(files) > 1:
            listed = ", ".join(path.name for path in files[:5]) + (", …" if len(files) > 5 else "")
            raise lanfit_error("named.several-files", folder=folder, files=listed)
        if files:
            return files[0]
    raise lanfit_error("named.no-file", folder=x_dir.parent)


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def npz_source(
    x_dir: Path,
    y_dir: Path | None,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    named: NamedArrays | None = None,
) -> Source:
    """Return the arrays of one npz file.

    Args:
        y_dir: not read; a note reports data in it, or in `x_dir`.
        named: the specified names; None: those of the inputs and outputs.

    Raises:
        InputError: the file can't be used for this model.
    """
    path, named = find_npz(x_dir), named or NamedArrays()
    there = array_names(path)
    needs_targets = Target(outputs[0].target) is not Target.INPUT
    of_input = _chosen(path, there, "--inputs", "input", [each.name for each in inputs], named.inputs)
    of_output = (
        _chosen(path, there, "--targets", "output", [each.name for each in outputs], named.targets)
        if needs_targets
        else {}
    )
    chunks = {name: (_numbers(path, key),) for name, key in of_input.items()}
    targets: dict[str, tuple[Chunk, ...] | tuple[Labels, ...]] = {}
    notes = (*_notes_on(path, of_input, "input"), *_notes_on(path, of_output, "output"), *_not_read(path, x_dir, y_dir))
    for each in outputs if needs_targets else ():
        key = of_output[each.name]
        if Target(each.target).is_classification:
            labels = (replace(read_npz_labels(path, key), name=f"{path} ({key})"),)
            targets[each.name], notes = labels, (*notes, *gathered(labels))
        else:
            targets[each.name] = (_numbers(path, key),)
    return Source(chunks, targets, notes=notes)


def _numbers(path: Path, key: str) -> Chunk:
    return replace(open_npz(path, key), name=f"{path} ({key})")


def _chosen(
    path: Path, there: Sequence[str], flag: str, kind: str, wanted: Sequence[str], given: Sequence[str]
) -> dict[str, str]:
    """Return the array of each input or output: by name if the names are those of the model, else in order."""
    keys = given or wanted
    arrays = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
    if len(keys) != len(wanted):
        count, names = pluralize(len(wanted), kind), ", ".join(wanted)
        raise lanfit_error("named.count", flag=flag, given=", ".join(given), count=count, names=names)
    for key in keys:
        if key not in there:
            if given:
                raise lanfit_error("named.no-such-array", file=path, key=key, arrays=arrays, flag=flag)
            example = ",".join((*there, *wanted)[: len(wanted)])
            count, names = pluralize(len(wanted), kind), ", ".join(wanted)
            raise lanfit_error(
                "named.unnamed", file=path, arrays=arrays, count=count, names=names, flag=f"{flag} {example}"
            )
    return {name: name for name in wanted} if set(keys) == set(wanted) else dict(zip(wanted, keys, strict=True))


def _notes_on(path: Path, chosen: dict[str, str], kind: str) -> tuple[str, ...]:
    """Return a note on arrays that are assigned by their order."""
    if len(chosen) < 2 or all(name == key for name, key in chosen.items()):
        return ()
    pairs = ", ".join(f"{key} is {kind} {name}" for name, key in chosen.items())
    return (f"{path.name}: {pairs}, in the order of the model",)


def _not_read(path: Path, x_dir: Path, y_dir: Path | None) -> tuple[str, ...]:
    folders = [folder for folder in (x_dir, y_dir) if folder is not None]
    others = [folder.name for folder in folders if any(is_data(each) and each != path for each in _files_in(folder))]
    return (f"{' and '.join(others)}: not read, as {path.name} holds the data",) if others else ()
