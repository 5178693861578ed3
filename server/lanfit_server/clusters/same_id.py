"""Decides whether a second link with the id of a connected client is the same client, or a machine with a copied id.

A client keeps its id in a file. When a disk image is cloned, or a workspace copied, two machines have that file, and
each would take the other's place for as long as both live. A client that returns must take its own place at once: its
old link may be dead, which takes a minute to detect. The two cases differ in:

1. **The process.** Each start of a client draws a random process id. The same one again is the same process, which
   has one link at a time: a network that changed, a NAT that forgot, a sleep. It replaces its old link at once.
2. **The processes before it.** The state folder lists the processes that used it, and a client names the last ones when
   it joins. A folder is locked by the process that uses it. So when the process of the older link is in the
   newcomer's list, the newcomer was started in the same folder after that process had ended: killed, or with the whole
   machine. It replaces the old link at once, too. The list is on disk before the client joins, so that this
   holds for kill -9 and for a power cut. A copied folder has the list of the time when it was copied: the process
   that uses the original since is not in it. (Nothing that stays the same on a machine would do: the host name,
   the machine id and the inode are cloned with the image, two copies on one machine share all but the last, and a
   machine may be renamed.)
3. **Whether the older one answers.** Otherwise the older link is pinged, and everything that is received over
   it counts as an answer. If there is one, two clients exist, and the newcomer must choose another id (`IdTaken`).
   If none comes for some seconds, the older link is dead, and is replaced: the list was lost, was too short, or the
   folder was restored from a backup.

When 2 is wrong, because a folder was copied while its client was running, the copy replaces the original once; the
original joins again, does not find the copy's process in its own list, the copy answers, and the original must choose
another id. When 3 is wrong, because a living client did not answer in time, it is replaced and reconnects in the same
way. So every case ends with one id for each machine, after at most one change of places. The new id is chosen by the
client itself, which writes it into its state: from then on there is nothing to decide.

The results in a copied outbox are offered by both machines, under their new and old ids. They are accepted from the one
that keeps the id, because the ledger has the lease of that id (leases.py); the other one gets `Reject` or `Duplicate`,
and drops them. A client whose folder was copied while it trained may so lose its current task: the copy has the id, and
the task with it, and the task is trained again.

A client that names no process has an earlier version. It can't replace a client that names its process: the older link
is pinged in that case, too.
"""

from __future__ import annotations

from lanfit.wire.messages import Join


def is_same_client(older_process: bytes, newcomer: Join) -> bool:
    """Return whether a new link with the same id is certainly from the client of the older link, restarted or not."""
    if not older_process:
        return True
    if not newcomer.process:
        return False
    return older_process == newcomer.process or older_process in newcomer.earlier
