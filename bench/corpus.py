"""What becomes of files that people have? The share of models that load, and of tables that are taken.

    python bench/corpus.py DIR [DIR ...] [--only models|tables] [--keras2 PYTHON] [--keep DIR] [--json FILE] [--verbose]

Looks at every model (.h5, .hdf5, .hdf, .keras) and every table (.csv, .tsv, .xlsx, .xls, .csv.gz) in the folders.

A model counts as loaded if lanfit's loader takes it and the model as it travels predicts on random rows what plain
Keras predicts. For a file of Keras 2 that is the Keras of `--keras2`, an interpreter with Keras 2.15, if it is given;
the Keras of this interpreter changes some old layers silently. Models that lanfit does not take by design (a Lambda,
classes of the author's own, several inputs or outputs, weights alone) are listed apart if the refusal names just that.

A table is looked at twice: whether lanfit reads it as it is, with the values that pandas reads; and whether
`lanfit prepare TABLE --yes` makes X and Y of it in one command.

Everything is opened in processes of its own with a limit of memory and of time; who dies of a file is started again.
Nothing in the files is run. The kinds of failure stand below the rates: the code of the error, how often, and one
of the files. The exit code is 1 if a file is read silently in another way than Keras or pandas read it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

ROOT = Path(__file__).resolve().parent
MODELS = (".h5", ".hdf5", ".hdf", ".keras")
TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".csv.gz")
#: A process has opened so many files when it is replaced: what Keras keeps adds up.
FILES = 40
#: Two releases of TensorFlow sum in another order.
TOLERANCE = 1e-5
#: Predictions of a model that the last bit of its rows changes may differ by this many times that change.
CHAOS = 10
#: What a model that lanfit does not take by design may be refused with.
BY_DESIGN = {
    "weights only": ("model.weights-only",),
    "several inputs or outputs": ("model.several-arrays",),
    "Lambda": ("Lambda",),
}
#: How Keras says that it does not know a class, in its several releases.
UNKNOWN_CLASS = r"(?:Unknown layer: |Could not locate class |Unknown \w+: )'?(\w+)"
PREPARE_SECONDS = 300
#: Importing Keras is not the file's fault.
START_SECONDS = 900
T = TypeVar("T")


@dataclass
class Found:
    """What became of one file."""

    path: str
    status: str
    code: str = ""
    message: str = ""
    hint: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


class Child:
    """A process of corpus_child.py. One that dies or takes too long is killed, and started again for the next file."""

    def __init__(self, *command: object, seconds: float) -> None:
        self._command = [str(part) for part in command]
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._output: queue.Queue[str] = queue.Queue()
        self._asked = 0
        self._ready = False

    def ask(self, **request: object) -> dict[str, Any]:
        if self._asked >= FILES:
            self.end()
        process = self._process or self._start()
        self._asked += 1
        assert process.stdin is not None
        try:
            if not self._ready:
                self._ready = bool(self._output.get(timeout=START_SECONDS))
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            output = self._output.get(timeout=self._seconds)
        except (queue.Empty, OSError) as error:
            slow = isinstance(error, queue.Empty)
            output = ""
            if slow:
                self.end()
                return {"code": "bench.too-slow", "message": f"no answer within {self._seconds:g} s"}
        if not output:
            code = process.wait()
            self.end()
            return {"code": "bench.died", "message": f"the process ended with {code}"}
        return json.loads(output)  # type: ignore[no-any-return]

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process, self._asked, self._ready = None, 0, False

    def _start(self) -> subprocess.Popen[str]:
        self._process = process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        output = self._output = queue.Queue()
        threading.Thread(target=_forward, args=(process, output), daemon=True).start()
        return process


def _forward(process: subprocess.Popen[str], output: queue.Queue[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        output.put(line)
    output.put("")


# --- models ---


def look_at_models(
    paths: Sequence[Path], keras2: str | None, kept: Path | None, seconds: float, show: Any
) -> list[Found]:
    """What lanfit and the references make of each model."""
    child = ROOT / "corpus_child.py"
    ours = Child(sys.executable, child, "lanfit", seconds=seconds)
    references = {"keras": Child(sys.executable, child, "keras", seconds=seconds)}
    if keras2:
        references["keras2"] = Child(keras2, child, "keras", seconds=seconds)
    found = []
    try:
        for path in paths:
            with tempfile.TemporaryDirectory() as folder:
                found.append(one_model(path, ours, references, folder, kept))
            show(found[-1])
    finally:
        for each in (ours, *references.values()):
            each.end()
    return found


def one_model(path: Path, ours: Child, references: dict[str, Child], folder: str, kept: Path | None) -> Found:
    what, reported = look_inside(path), {}
    if what["kind"] == "model":
        reported = {name: refer(path, name, child, folder, kept) for name, child in references.items()}
    what["parts"] += own_classes(reported.values())
    rows = {name: each["x"] for name, each in reported.items() if "x" in each}
    output = ours.ask(path=str(path), folder=folder, rows=rows)
    facts = {"version": what["version"], "parts": what["parts"], "references": {}}
    for name, reference in reported.items():
        facts["references"][name] = against(output, name, reference)
    result = Found(str(path), "", output.get("code", ""), output.get("message", ""), output.get("hint", ""), facts)
    if output.get("loads"):
        facts["compiled"], facts["notes"] = bool(output["compiled"]), output["notes"]
        result.status = assess(what["version"], facts["references"])
    elif what["kind"] != "model":
        result.status = "no whole model"
    else:
        result.status = "by design" if named(what["parts"], result) else "refused"
    return result


def own_classes(references: Iterable[dict[str, Any]]) -> list[str]:
    """The classes that a reference misses, where none loads the model: those of its author."""
    references = list(references)
    if any(each.get("loads") for each in references):
        return []
    return sorted({name for each in references for name in re.findall(UNKNOWN_CLASS, each.get("message", ""))})


def refer(path: Path, name: str, child: Child, folder: str, kept: Path | None) -> dict[str, Any]:
    """What a reference predicts, on rows that it makes; that of an earlier time, if it was kept."""
    if kept is None:
        return child.ask(path=str(path), folder=folder)
    kept.mkdir(parents=True, exist_ok=True)
    file = kept / f"{hashlib.sha256(path.read_bytes()).hexdigest()}-{name}.json"
    if not file.exists():
        output = child.ask(path=str(path), folder=str(kept))
        if output.get("code", "").startswith("bench."):  # it may be the machine's fault
            return output
        file.write_text(json.dumps(output), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def against(output: dict[str, Any], name: str, reference: dict[str, Any]) -> dict[str, Any]:
    """What a reference makes of the file, and by how much its predictions differ from lanfit's."""
    found: dict[str, Any] = {"loads": bool(reference.get("loads")), "message": reference.get("message", "")}
    if output.get("loads") and "y" in reference:
        found["shape"] = reference["shape"] == output["shape"]
        if name not in output["predicted"]:  # other rows than lanfit's model takes
            return found
        a, b = (
            np.load(path, allow_pickle=False).astype(np.float64) for path in (output["predicted"][name], reference["y"])
        )
        with np.errstate(invalid="ignore"):
            same = np.array_equal(np.isfinite(a), np.isfinite(b)) if a.shape == b.shape else False
            found["difference"] = float(np.nanmax(np.abs(a - b), initial=0.0)) if same else float("inf")
        found["moved"] = output["moved"][name]
        found["scale"] = float(max(1.0, np.nanmax(np.abs(b), initial=0.0)))
    return found


def assess(version: str, references: dict[str, dict[str, Any]]) -> str:
    """What a model that lanfit loads is worth, held against the reference that is right for its version.

    Keras 3 adds a dimension to some old models: it is no reference for these, Keras 2 is one always.
    """
    loads = {name: each for name, each in references.items() if each["loads"] and "shape" in each}
    right = loads.get("keras2") if version.startswith("2.") else None
    if right is None:
        right = next((loads[name] for name in ("keras", "keras2") if name in loads and loads[name]["shape"]), None)
    if right is None:
        return "loads, no reference"
    bound = max(TOLERANCE * right.get("scale", 1.0), CHAOS * right.get("moved", 0.0))
    return "loads" if right.get("difference", float("inf")) <= bound else "DIFFERENT"


def named(parts: Sequence[str], refusal: Found) -> bool:
    """Whether the refusal names what this model can't be taken for."""
    output = f"{refusal.code} {refusal.message}"
    return any(word in output for part in parts for word in BY_DESIGN.get(part, (part,)))


def look_inside(path: Path) -> dict[str, Any]:
    """What a file is, found out without lanfit: kind, Keras version, and the parts that lanfit does not take."""
    import zipfile

    import h5py

    found: dict[str, Any] = {"kind": "no model", "version": "", "parts": []}
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                found["version"] = _text(file.attrs.get("keras_version", ""))
                text = _text(file.attrs.get("model_config", ""))
            found["kind"] = "model" if text else "weights only"
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                members = {name.replace("\\", "/"): name for name in archive.namelist()}
                if "config.json" not in members:
                    return found
                text = archive.read(members["config.json"]).decode()
                metadata = json.loads(archive.read(members["metadata.json"])) if "metadata.json" in members else {}
                found |= {"kind": "model", "version": str(metadata.get("keras_version", ""))}
        else:
            return found
        found["parts"] = sorted(set(_foreign(json.loads(text)))) if text else []
    except Exception as error:  # noqa: BLE001 - a damaged file is an ordinary finding
        found["parts"] = [f"damaged: {error}"]
    return found


def _foreign(config: Any) -> Iterator[str]:
    """The parts of a model's configuration that lanfit does not take by design."""
    inside = config.get("config") if isinstance(config, dict) else None
    if isinstance(inside, dict) and "input_layers" in inside:
        for key in ("input_layers", "output_layers"):
            if isinstance(ends := inside[key], list) and len(ends) > 1 and isinstance(ends[0], list):
                yield "several inputs or outputs"
    for each in _objects(inside):
        name, registered = each["class_name"], each.get("registered_name")
        registered = registered if isinstance(registered, str) else ""
        own = ">" in registered and not registered.lower().startswith("keras")
        unregistered = each.get("module", "") is None and registered
        if name == "Lambda" or own or unregistered:
            yield name


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("class_name"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# --- tables ---


def look_at_tables(paths: Sequence[Path], seconds: float, show: Any) -> list[tuple[Found, Found]]:
    """What lanfit makes of each table, as it is and with `lanfit prepare`."""
    child = Child(sys.executable, ROOT / "corpus_child.py", "tables", seconds=seconds)
    found = []
    try:
        for path in filter(Path.exists, paths):
            found.append((table_found(path, child.ask(path=str(path))), prepare(path, child)))
            show(*found[-1])
    finally:
        child.end()
    return found


def table_found(path: Path, output: dict[str, Any]) -> Found:
    facts = {"pandas": "not compared"} if output.get("loads") else {}
    facts |= {key: output[key] for key in ("pandas", "how", "notes") if key in output}
    found = Found(
        str(path), "refused", output.get("code", ""), output.get("message", ""), output.get("hint", ""), facts
    )
    if output.get("loads"):
        found.status = "DIFFERENT" if output.get("pandas") in ("silent", "differs") else "taken"
    return found


def prepare(path: Path, child: Child) -> Found:
    """`lanfit prepare TABLE --yes` in an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = folder / f"table{''.join(path.suffixes[-2:]) if path.name.endswith('.gz') else path.suffix}"
        shutil.copy(path, table)
        command = [sys.executable, "-P", "-m", "lanfit.cli", "prepare", table.name, "--yes"]
        environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=PREPARE_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Found(str(path), "refused", "bench.too-slow", f"not ready within {PREPARE_SECONDS} s")
        error = done.stderr.decode(errors="replace").strip()
        if done.returncode == 0:
            return table_found(path, {"loads": True, **child.ask(path=str(table), prepared=str(folder))})
        code = "traceback" if "Traceback (most recent call last)" in error else code_of(error)
        if done.returncode < 0:
            code = "bench.died"
        return Found(str(path), "refused", code, " ".join(error.split())[-600:])


def code_of(text: str) -> str:
    """The code of the error whose sentence this is: people see only the sentence."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
    from error_texts import ERRORS

    text = " ".join(text.split())
    fits = []
    for code, entry in ERRORS.items():
        words = [" ".join(part.split()) for part in re.split(r"\{[^}]*\}", entry.message)]
        pattern = ".*".join(re.escape(part) for part in words)
        if re.search(pattern, text):
            fits.append((sum(map(len, words)), code))
    return max(fits)[1] if fits else "no known sentence"


# --- what is said about it ---


def share(part: int, whole: int) -> str:
    return f"{part:4} of {whole}  {part / whole:6.1%}" if whole else "   0"


def kinds(found: Iterable[Found]) -> list[str]:
    """The kinds of failure, the most frequent first, each with a file."""
    found = list(found)
    counts = Counter(each.code for each in found)
    lines = []
    for code, count in counts.most_common():
        first = next(each for each in found if each.code == code)
        lines.append(f"  {count:4}  {code:<28} {Path(first.path).name}: {output(first).removeprefix(code).strip()}")
    return lines


def listed(title: str, found: Iterable[Found], *, explain: bool = True) -> list[str]:
    lines = [f"    {Path(each.path).name}  {output(each) if explain else ''}".rstrip() for each in found]
    return [f"{title}: {len(lines)}", *lines] if lines else [f"{title}: none"]


def output(found: Found) -> str:
    """What there is to be said about a file, without its name, with which most messages begin."""
    about = found.facts.get("how", "") or found.message.removeprefix(f"{Path(found.path).name}: ")
    return " ".join(part for part in (found.code, about[:160]) if part)


def models_report(found: Sequence[Found], *, verbose: bool) -> list[str]:
    by: dict[str, list[Found]] = {}
    for each in found:
        by.setdefault(each.status, []).append(each)
    get = by.get
    apart = get("no whole model", [])
    whole = [each for each in found if each not in apart]
    loads = [*get("loads", []), *get("loads, no reference", [])]
    refused = get("refused", [])
    plain = [each for each in whole if each.facts["references"].get("keras", {}).get("loads")]
    older = [each for each in whole if each.facts["references"].get("keras2", {}).get("loads")]
    lines = [
        f"MODELS  {len(whole)} whole models",
        f"  loads, and predicts what Keras predicts   {share(len(loads), len(whole))}",
        f"  or is refused for its true cause          {share(len(loads) + len(get('by design', [])), len(whole))}",
        f"  plain Keras loads                         {share(len(plain), len(whole))}",
    ]
    if any("keras2" in each.facts["references"] for each in whole):
        lines.append(f"  Keras 2 loads                             {share(len(older), len(whole))}")
    lines += ["kinds of failure", *kinds(refused)]
    lines += listed("predicts something else than Keras", get("DIFFERENT", []))
    lines += listed("loads, but no reference loads it", get("loads, no reference", []))
    lines += listed("plain Keras or Keras 2 loads, lanfit refuses", [e for e in refused if e in plain or e in older])
    lines += listed("lanfit loads, plain Keras refuses", [e for e in loads if e not in plain], explain=False)
    lines += listed("refused for the true cause", get("by design", []))
    lines += listed("no whole model", apart)
    differ = [
        each
        for each in loads
        if each.facts["references"].get("keras", {}).get("difference", 0) > TOLERANCE
        and each.facts["references"]["keras"].get("shape")
    ]
    lines += listed("plain Keras differs silently from Keras 2, lanfit does not", differ, explain=False)
    worst = max((ref.get("difference", 0.0) for each in loads if each not in differ
                 for ref in each.facts["references"].values() if ref.get("shape")), default=0.0)  # fmt: skip
    lines.append(f"largest difference of any prediction: {worst:.1e}")
    if verbose:
        lines += listed("all files", sorted(found, key=lambda each: each.status))
    return lines


def tables_report(read: Sequence[Found], prepared: Sequence[Found], *, verbose: bool) -> list[str]:
    lines = [f"TABLES  {len(read)} tables"]
    for what, found in (("read as it is", read), ("taken by lanfit prepare TABLE --yes", prepared)):
        taken = [each for each in found if each.status == "taken"]
        lines.append(f"  {what:<41} {share(len(taken), len(found))}")
    for what, found in (("as it is", read), ("lanfit prepare", prepared)):
        lines += [f"kinds of failure, {what}", *kinds(each for each in found if each.status == "refused")]
        lines += listed(f"other values than pandas, {what}", [e for e in found if e.status == "DIFFERENT"])
        noted = [e for e in found if e.facts.get("pandas") == "announced"]
        lines += listed(f"read in another way than pandas does by itself, and so announced, {what}", noted)
        if verbose:
            lines += listed("all files", sorted(found, key=lambda each: each.status))
    return lines


def in_jobs(jobs: int, paths: Sequence[Path], look: Callable[[Sequence[Path]], list[T]]) -> list[T]:
    """Look at shares of the files at the same time."""
    with ThreadPoolExecutor(jobs) as pool:
        return [each for found in pool.map(look, [paths[job::jobs] for job in range(jobs)]) for each in found]


def files_in(folders: Sequence[Path], endings: Sequence[str]) -> list[Path]:
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in found if path.name.lower().endswith(tuple(endings)) and path.stat().st_size)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--only", choices=["models", "tables"])
    parser.add_argument("--keras2", metavar="PYTHON", help="an interpreter with Keras 2.15, as a second reference")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what Keras predicts; the next time it is known")
    parser.add_argument("--jobs", type=int, default=1, help="so many files at the same time")
    parser.add_argument("--seconds", type=float, default=120, help="how long one file may take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what became of every file")
    parser.add_argument("--verbose", action="store_true", help="say what becomes of each file")
    options = parser.parse_args()

    def show(*found: Found) -> None:
        if options.verbose:
            print(Path(found[0].path).name, *(f"| {each.status} {each.code}" for each in found), file=sys.stderr)

    results: dict[str, Any] = {}
    if options.only != "tables":
        found = in_jobs(
            options.jobs,
            files_in(options.folders, MODELS),
            lambda paths: look_at_models(paths, options.keras2, options.keep, options.seconds, show),
        )
        results["models"] = sorted(found, key=lambda each: each.path)
        print("\n".join(models_report(results["models"], verbose=options.verbose)), flush=True)
    if options.only != "models":
        pairs = in_jobs(
            options.jobs,
            files_in(options.folders, TABLES),
            lambda paths: look_at_tables(paths, options.seconds, show),
        )
        pairs = sorted(pairs, key=lambda pair: pair[0].path)
        results["tables"], results["prepared"] = ([pair[number] for pair in pairs] for number in (0, 1))
        print("\n".join(tables_report(results["tables"], results["prepared"], verbose=options.verbose)))
    if options.json:
        text = json.dumps({kind: [asdict(each) for each in found] for kind, found in results.items()}, indent=1)
        options.json.write_text(text, encoding="utf-8")
    return int(any(each.status == "DIFFERENT" for found in results.values() for each in found))


if __name__ == "__main__":
    sys.exit(main())
