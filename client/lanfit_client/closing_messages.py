"""What a client's user reads when a run, or a link, has ended: what is true at that moment. Decides nothing else."""

from __future__ import annotations

from typing import Final

from lanfit.errors import LanfitError
from lanfit.mistakes import mistake
from lanfit.text import pluralize, sentence


def run_ended_message(text: str, *, once: bool) -> str:
    """The run is over, as the server says it; the client ends with it, or stays."""
    return f"{sentence(text)}." + ("" if once else " This client stays for the next run; Ctrl-C ends it.")


def link_ended_message(lost: LanfitError, address: str, *, on_purpose: bool, at_work: bool, results: int) -> str:
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


#: A login, a welcome and some pings: all of them are small enough for any packet.
SMALL_TRAFFIC: Final = 16 * 1024


class LargePacketLoss:
    """Notices a way to the server that passes small packets and loses large ones: nothing else looks like it twice.

    Where the largest packet of a VPN or a tunnel is smaller than that of this machine, and a firewall drops the message
    that says so, a login passes, and everything that fills a packet is sent again and again, in vain.
    """

    def __init__(self) -> None:
        self._in_a_row = 0

    def lost(self, stood_still: str, received: int) -> str:
        """A link that had logged in has ended; returns what to say of it, at the second such end in a row.

        Args:
            stood_still: as `Link.stood_still`.
            received: bytes that came over it.
        """
        large = stood_still == "stuck" or (stood_still == "silent" and received < SMALL_TRAFFIC)
        self._in_a_row = self._in_a_row + 1 if large else 0
        if self._in_a_row < 2:
            return ""
        return (
            "Small messages pass between this machine and the server, large ones do not, for the second time now: "
            "a VPN or a tunnel on the way takes smaller packets than they send (MTU), most likely. Join without the "
            "VPN, or set a smaller MTU, such as 1280, for the network adapters of both machines."
        )
