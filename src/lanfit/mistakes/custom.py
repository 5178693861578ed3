"""What can be wrong with custom objects: files that define layers, losses, metrics and activations of one's own.

Part of the table in lanfit.mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import InputError
from lanfit.mistakes.entry import Mistake

MISTAKES: Mapping[str, Mistake] = {
    # --- the file ---
    "custom.no-file": Mistake(
        InputError,
        "there is no file {path} with custom objects",
        "Give the path of the Python file that defines them: --custom-objects my_layers.py.",
    ),
    "custom.not-python": Mistake(
        InputError,
        "{path} is not a Python file",
        "Custom objects are read from a file that ends in .py: --custom-objects my_layers.py.",
    ),
    "custom.unreadable": Mistake(
        InputError,
        "{path} can't be read as Python: {reason}",
        "Correct the file; `python {path}` shows the same error.",
    ),
    "custom.too-large": Mistake(
        InputError,
        "{path} has {size:,byte}; a file with custom objects has at most {most:,}",
        "Put only the classes and functions of the model into it.",
    ),
    "custom.failed": Mistake(
        InputError,
        "{file} can't be executed: {reason}",
        "The file must be importable by itself: it may import installed packages, which each client needs, too, and "
        "no files beside it.",
    ),
    "custom.two-of-a-name": Mistake(
        InputError,
        "{first} and {second} both define {name}",
        "Rename one of them, or give only one of the files.",
    ),
    "custom.changed": Mistake(
        InputError,
        "{path} is not the file that it was: its SHA-256 begins with {found}, and {wanted} is expected",
        "Put the earlier file back; for the file as it is now, leave #sha256=… out of the job file, and start a new "
        "run.",
    ),
    # --- what is in it ---
    "custom.missing": Mistake(
        InputError,
        "{place}the {kind} {name} is not defined in {files}",
        "Define it there under this name, at the top level of the file, on every machine.",
    ),
    "custom.keras-name": Mistake(
        InputError,
        "{place}the {kind} {name} of {files} has a name that Keras uses itself",
        'Rename it, or decorate it with @keras.saving.register_keras_serializable("mine"), and build the model again.',
    ),
    "custom.own-training": Mistake(
        InputError,
        "{file}: the class {name} has its own {method}(), which clients would not run",
        "Clients train with the loop of lanfit: move what it does into a layer, a loss or a metric.",
    ),
    # --- who has it ---
    "custom.not-allowed": Mistake(
        InputError,
        "the model needs custom objects from {file} (SHA-256 {wanted}), and this client allows no such file{own}",
        "Get {file} from whoever runs the server, read it, and start the client with --custom-objects {file}.",
    ),
    "custom.other-file": Mistake(
        InputError,
        "{file} of this client (SHA-256 {found}) is not the server's (SHA-256 {wanted}){lacks}",
        "Copy the server's {file} to this machine, read it, and start the client again with --custom-objects {file}.",
    ),
    # --- in a Python program ---
    "custom.no-source": Mistake(
        InputError,
        "{names}: defined in {where}, not in a file that clients could have",
        "Move the definitions to a file, e.g. my_layers.py, import them from it (from my_layers import {first}), and "
        'build the model again. For machines of the LAN add custom_objects="my_layers.py".',
    ),
    "custom.not-named": Mistake(
        InputError,
        "the model uses {names} from {file}, and machines of the LAN must be told so",
        "Add custom_objects={file!r} to fit or to the Cluster, and start each client with --custom-objects {name}.",
    ),
    "custom.no-module": Mistake(
        InputError,
        "custom_objects={given} names no Python file",
        'Give the path of the file that defines them, as custom_objects="my_layers.py", or the imported module.',
    ),
    "custom.not-serializable": Mistake(
        InputError,
        "{name}: Keras can't write this model down: {reason}",
        "Give {name} a get_config() that returns the arguments of its __init__, in a file named by custom_objects=: "
        "see docs/howto/custom-layers.md.",
    ),
}
