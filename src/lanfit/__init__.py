"""lanfit: model.fit() on all the machines you have."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lanfit_server.api.attach import attach as attach
    from lanfit_server.api.cluster import Cluster as Cluster

__version__ = "0.1.0"
#: What the public API has of the server package: imported when it is used, because a client needs nothing of it.
_LAZY = {"Cluster": "lanfit_server.api.cluster", "attach": "lanfit_server.api.attach"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
