"""Messages at the end of a run or a link, according to the state at that moment. Decides nothing else."""

from __future__ import annotations

from typing import Final

from lanfit.core.text import pluralize, sentence
from lanfit.errors import LanfitError, lanfit_error


def run_ended_message(text: str, *, once: bool) -> str:
    """Return the message at the end of a run; the client exits with it, or waits for the next one."""
    return f"{sentence(text)}." + ("" if once else " This client waits for the next run; Ctrl-C stops it.")


def link_ended_message(lost: LanfitError, address: str, *, on_purpose: bool, at_work: bool, results: int) -> str:
    """Return the message at the end of a link.

    Args:
        on_purpose: the server closed the connection with a goodbye.
        at_work: a task is being trained here.
        results: the number of finished results that the server has not acknowledged.
    """
    why = lanfit_error("link.closed", address=address) if on_purpose else lost
    lines = [f"{sentence(why.message)}."]
    if at_work:
        lines.append("Training continues, and the result is kept until the server has it.")
    elif results:
        them = "it" if results == 1 else "them"
        lines.append(
            f"{pluralize(results, 'finished result is', 'finished results are')} kept here until it has {them}."
        )
    return " ".join([*lines, why.hint])


#: A login, a welcome and some pings: all of them are small enough for any packet.
SMALL_TRAFFIC: Final = 16 * 1024


class LargePacketLoss:
    """Detects a network path that transmits small packets and loses large ones: no other cause looks like it twice.

    If the largest packet of a VPN or tunnel is smaller than that of this machine, and a firewall drops the message
    about it, a login succeeds, but everything that fills a packet is sent again and again, in vain.
    """

    def __init__(self) -> None:
        self._in_a_row = 0

    def lost(self, stalled: str, received: int) -> str:
        """Record the end of a link that had logged in; return a message at the second such end in a row.

        Args:
            stalled: as `Link.stalled`.
            received: bytes received over it.
        """
        large = stalled == "stuck" or (stalled == "silent" and received < SMALL_TRAFFIC)
        self._in_a_row = self._in_a_row + 1 if large else 0
        if self._in_a_row < 2:
            return ""
        return (
            "For the second time, small messages reach the server but large ones do not: most likely a VPN or tunnel "
            "in between needs smaller packets (MTU). Join without the VPN, or set a smaller MTU, such as 1280, for the "
            "network adapters of both machines."
        )
