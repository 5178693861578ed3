"""The folder for data that belongs to a user of this machine, not to a workspace."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

#: The variable that sets another folder.
STATE_VARIABLE = "LANFIT_STATE_DIR"


def machine_state(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return the folder according to the system's convention; it need not exist.

    Raises:
        OSError: this user has no home folder.
    """
    if named := environment.get(STATE_VARIABLE):
        return Path(named).expanduser().absolute()
    if platform == "win32" and (local := environment.get("LOCALAPPDATA")):
        return Path(local) / "lanfit"
    state = environment.get("XDG_STATE_HOME", "")
    if platform not in ("win32", "darwin") and Path(state).is_absolute():  # by the convention others are ignored
        return Path(state) / "lanfit"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
    if platform == "darwin":
        return home / "Library" / "Application Support" / "lanfit"
    return home / ("AppData/Local/lanfit" if platform == "win32" else ".local/state/lanfit")
