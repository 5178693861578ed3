"""What the lobby shows about joining: the command for a client, for each system. Pure."""

from __future__ import annotations

from typing import Any

#: What has to be installed first, where it is not, by system.
INSTALL = {
    "Windows": "py -m pip install lanfit[tensorflow]",
    "macOS": 'python3 -m pip install "lanfit[tensorflow]"',
    "Linux": 'python3 -m pip install "lanfit[tensorflow]"',
}
#: How Python is called there.
PYTHON = {"Windows": "py", "macOS": "python3", "Linux": "python3"}
IN_A_CLONE = "python client "


def joining(command: str) -> dict[str, Any]:
    """Return the keys of the section `server` about joining.

    Args:
        command: the command for a client, such as `lanfit client 192.0.2.7:8470 --fingerprint …`.
    """
    address = next((word for word in command.split() if ":" in word), "")
    lines = [
        {
            "system": system,
            "lines": [command.replace(IN_A_CLONE, f"{PYTHON[system]} client ", 1)]
            if command.startswith(IN_A_CLONE)
            else [install, command],
        }
        for system, install in INSTALL.items()
    ]
    return {"address": address, "join": command, "join_lines": lines}
