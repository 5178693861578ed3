"""What docs/failures.md shows of the code: the states of a task, and how long is waited for what."""

from __future__ import annotations

from collections.abc import Callable

from tables_markdown import table

from lanfit.settings.timeouts import OF_SERVER
from lanfit_server.run.tasks import TRANSITIONS, State


def _picture() -> str:
    """The table of states as a diagram; GitHub and most viewers draw it."""

    def name(state: State) -> str:
        return state.value.replace(" ", "_")

    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {name(State.WAITING)}"]
    for event, (sources, target, meaning) in TRANSITIONS.items():
        for source in State:
            if source in sources:
                lines.append(f"    {name(source)} --> {name(target)}: {event} ({meaning})")
    return "\n".join([*lines, f"    {name(State.COMMITTED)} --> [*]", "```"])


def _timeouts() -> str:
    rows = [[f"`{field.key}`", f"{field.example} s", field.help] for field in OF_SERVER.values()]
    return table(["setting", "default", "what it is"], rows)


TABLES: dict[str, Callable[[], str]] = {"states": _picture, "waits": _timeouts}
