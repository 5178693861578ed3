"""Converts messages for the command line to the terms of a Python program. Decides nothing."""

from __future__ import annotations

import re

from lanfit.errors import InputError
from lanfit.settings.fields import paths
from lanfit.settings.job import FIELDS
from lanfit_server.start.page_settings import PAGE

#: A flag, and its possible value: a number, or a word, which only some flags take.
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:([ =])(\d+(?:\.\d+)?(?:e[+-]?\d+)?|[a-z][\w./-]*\w))?")
#: Sentences with a command to type stay as they are.
_COMMAND = re.compile(r"\blanfit (?:server|client|simulate|prepare|predict|collect|demo)\b")
#: The temporary file of a model, which the user does not know.
_FILE = re.compile(r"^([\w.-]+)\.keras: ")


def in_python(text: str) -> str:
    """Return a message or a hint with arguments of `Cluster.fit` instead of flags, and without the model file."""
    sentences = re.split(r"(?<=\.)(\s+)", _FILE.sub(r"the model \1: ", text))
    return "".join(each if _COMMAND.search(each) else _FLAG.sub(_argument, each) for each in sentences)


def _argument(found: re.Match[str]) -> str:
    flag, between, value = found.groups()
    name = flag.replace("-", "_")
    if name == "no_dashboard":
        return "dashboard=False"
    if name not in FIELDS and name not in PAGE:
        return found[0]
    if value is None:
        return f"{name}="
    if value[0].isdigit():
        return f"{name}={value}"
    return f'{name}="{value}"' if _takes(name, value) else f"{name}={between}{value}"


def _takes(name: str, word: str) -> bool:
    """Return whether a word after a flag is its value, not the rest of the sentence."""
    parse = {**PAGE, **FIELDS}[name].parse
    if parse is paths:
        return "." in word
    if not parse.__qualname__.startswith("choice."):
        return False
    try:
        parse(word)
    except InputError:
        return False
    return True
