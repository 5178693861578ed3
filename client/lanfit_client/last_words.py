"""What a client's user reads when a run, or a link, has ended: what is true at that moment. Decides nothing else."""

from __future__ import annotations

from lanfit.errors import LanfitError
from lanfit.mistakes import mistake
from lanfit.text import pluralize, sentence


def after_run(text: str, *, once: bool) -> str:
    """The run is over, as the server says it; the client ends with it, or stays."""
    return f"{sentence(text)}." + ("" if once else " This client stays for the next run; Ctrl-C ends it.")


def after_link(lost: LanfitError, address: str, *, on_purpose: bool, at_work: bool, results: int) -> str:
    """A link has ended.

    Args:
        on_purpose: the server said goodbye, and did not just vanish.
        at_work: a task is being trained here.
        results: how many finished results the server has not acknowledged.
    """
    why = mistake("link.closed", address=address) if on_purpose else lost
    said = [f"{sentence(why.message)}."]
    if at_work:
        said.append("Training goes on here, and its result is kept until the server has it.")
    elif results:
        them = "it" if results == 1 else "them"
        said.append(
            f"{pluralize(results, 'finished result is', 'finished results are')} kept here until it has {them}."
        )
    return " ".join([*said, why.hint])
