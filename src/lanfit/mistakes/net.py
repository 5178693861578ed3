"""What can go wrong between machines: listening, the server's identity, finding a server, joining it, losing it."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ConnectionFailed, InputError, RefusedError
from lanfit.mistakes.entry import Mistake

_NEW_IDENTITY = "Move it away to get a new one; clients that know the old fingerprint will refuse the new one."
_RIGHTS = "Check the folder and its rights."
_SPELLING = "Check the spelling, or use the IP address that the server shows."
_PORT = "Check the port that the server shows."
_MOMENT = "Try again in a moment."

MISTAKES: Mapping[str, Mistake] = {
    # --- what is typed for an address ---
    "address.none": Mistake(
        InputError,
        "{text!r} is not the address of a server",
        "Give its IP address or name, as the server shows it: 192.168.1.20, 192.168.1.20:8470 or [fd00::1]:8470.",
    ),
    "address.no-port": Mistake(
        InputError,
        "{text!r} has no port behind its address, but {port!r}",
        "A port is a number from 1 to 65535, as in 192.168.1.20:8470; without one it is 8470.",
    ),
    "address.not-ipv4": Mistake(
        InputError,
        "{host!r} is no IPv4 address: it has four numbers from 0 to 255 with dots between them",
        _SPELLING,
    ),
    "address.not-ipv6": Mistake(
        InputError,
        "{host!r} is no IPv6 address",
        "Check the spelling; an IPv6 address stands in brackets when a port follows, as in [fd00::1]:8470.",
    ),
    "address.ambiguous": Mistake(
        InputError,
        "{text} may be an IPv6 address, or the address {host} with the port {port}",
        "Type [{host}]:{port} if that is the port, and [{text}] if it is not.",
    ),
    "address.all": Mistake(
        InputError,
        "{host} stands for many addresses: no client can join at it",
        "Use the address in the line that the server shows.",
    ),
    "address.no-zone": Mistake(
        InputError,
        "{host} is a link-local address: it needs an interface of this machine",
        "Add one, as in {host}%{zone}; this machine has: {zones}.",
    ),
    "address.other-zone": Mistake(
        InputError,
        "{host} names an interface that this machine does not have",
        "Behind the % stands an interface of this machine, not one of the server's. Here: {zones}.",
    ),
    # --- the server listens ---
    "listen.no-port": Mistake(
        InputError,
        "{port} is no port",
        "Choose one from 1 to 65535.",
    ),
    "listen.unknown-name": Mistake(
        InputError,
        "{host!r} is no address or name of this machine: {reason}",
        "Try 0.0.0.0, which stands for all its addresses.",
    ),
    "listen.with-port": Mistake(
        InputError,
        "{host!r} is an address with a port; the port has a question and a flag of its own",
        "Give {address} as the address, and {port} as the port (--port).",
    ),
    "listen.port-in-use": Mistake(
        InputError,
        "port {port} is in use on {address}",
        "End the program that uses it, perhaps another lanfit server, or choose another one with --port.",
    ),
    "listen.port-forbidden": Mistake(
        InputError,
        "port {port} may not be used here",
        "Choose one above 1023 with --port.",
    ),
    "listen.port-reserved": Mistake(
        InputError,
        "port {port} may not be used here: the system keeps it for itself",
        "Choose another one with --port. On Windows, Hyper-V, WSL and Docker reserve ranges of ports; "
        "`netsh interface ipv4 show excludedportrange protocol=tcp` lists them.",
    ),
    "listen.other-machine": Mistake(
        InputError,
        "{address} is no address of this machine",
        "Try 0.0.0.0, which stands for all of them.",
    ),
    "listen.failed": Mistake(
        InputError,
        "port {port} of {address} can't be used: {reason}",
        "Choose another one with --port.",
    ),
    # --- the server's identity ---
    "identity.unusable": Mistake(
        InputError,
        "{file} can't be read or written: {reason}",
        _RIGHTS,
    ),
    "identity.damaged": Mistake(
        InputError,
        "{file} is no identity of a lanfit server: {reason}",
        _NEW_IDENTITY,
    ),
    "identity.damaged-ids": Mistake(
        InputError,
        "{file} has no ids of a lanfit server: {reason}",
        "Put a copy of it back. Or move it away to get new ids: then no run of this workspace can be resumed, and "
        "results that clients still hold for it are not taken.",
    ),
    "identity.other-key": Mistake(
        InputError,
        "the key in {file} does not fit its certificate ({reason})",
        _NEW_IDENTITY,
    ),
    "fingerprint.malformed": Mistake(
        InputError,
        "{text!r} is no fingerprint: {why}",
        "Copy what the server shows behind --fingerprint; dashes, and upper or lower case, make no difference.",
    ),
    # --- a client looks for its server ---
    "connect.no-port": Mistake(
        InputError,
        "{port} is no port",
        "Give one from 1 to 65535, as the server shows it.",
    ),
    "connect.name-not-found-in-time": Mistake(
        ConnectionFailed,
        "the name {host!r} was not found within {seconds:g} s",
        _SPELLING,
    ),
    "connect.unknown-name": Mistake(
        ConnectionFailed,
        "no machine named {host!r} is known here",
        _SPELLING,
    ),
    "connect.no-answer": Mistake(
        ConnectionFailed,
        "nothing answered at {address} within {seconds:g} s: a firewall, most likely, or a wrong address",
        "Check the address, that both machines are in the same network, and that the server's firewall lets TCP port "
        "{port} in.",
    ),
    "connect.nobody-listens": Mistake(
        ConnectionFailed,
        "{address} refused the connection: the machine is there, but no server listens on this port",
        "Start the server, or check the port.",
    ),
    "connect.rejected": Mistake(
        ConnectionFailed,
        "{address} can't be reached: a firewall rejects the connection, or no machine has this address",
        "Let TCP port {port} through the firewall of the server (firewalld: `firewall-cmd --add-port={port}/tcp`), and "
        "check the address.",
    ),
    "connect.nobody-there": Mistake(
        ConnectionFailed,
        "no machine answers at {address}: it is off, has another address, or is in another network",
        "Compare the address with what the server shows. A firewall on the way may look the same.",
    ),
    "connect.no-way": Mistake(
        ConnectionFailed,
        "this machine has no way to {address}: {reason}",
        "Check the address, and that this machine is connected to the server's network.",
    ),
    "connect.failed": Mistake(
        ConnectionFailed,
        "{address} can't be reached: {reason}",
        "Check address and network.",
    ),
    "connect.silent": Mistake(
        ConnectionFailed,
        "{address} takes connections, but did not answer within {seconds:g} s: no lanfit server, or a busy one",
        "Check the port; if it is right, try again in a moment.",
    ),
    "connect.no-lanfit": Mistake(
        ConnectionFailed,
        "no lanfit server is at {address}: something else answers there",
        _PORT,
    ),
    "connect.dropped": Mistake(
        ConnectionFailed,
        "{address} dropped the connection before it said who it is: a server that is just ending, or another program",
        "Wait a moment; if it stays so, check the port that the server shows.",
    ),
    "connect.other-tls": Mistake(
        ConnectionFailed,
        "no lanfit server is at {address}: another TLS server answers there",
        _PORT,
    ),
    # --- it logs in ---
    "join.silent": Mistake(
        ConnectionFailed,
        "{address} did not go on with the login for {seconds:g} s",
        _MOMENT,
    ),
    "join.cut-short": Mistake(
        ConnectionFailed,
        "the login at {address} did not come to its end: {reason}",
        _MOMENT,
    ),
    "join.other-fingerprint": Mistake(
        RefusedError,
        "{address} has the fingerprint {shown}, but {expected} is expected",
        "Compare with what the server shows; if it differs, something stands between you and the server.",
    ),
    "join.changed-fingerprint": Mistake(
        RefusedError,
        "{address} shows the fingerprint {shown}, but this machine knows it with {known}: another server, or someone "
        "in between",
        "Compare with what the server shows. If the change is wanted, give the new one with --fingerprint, or delete "
        "{address!r} from {file}.",
    ),
    "join.passphrase": Mistake(
        RefusedError,
        "{address}: wrong passphrase",
        "Ask who started the server; at its terminal p and Enter shows the passphrase. Upper and lower case are "
        "different.",
    ),
    "join.version": Mistake(
        RefusedError,
        "{address}: the server speaks {theirs} of the protocol, and this client version {ours}",
        "Install the same lanfit on both machines.",
    ),
    "join.banned": Mistake(
        ConnectionFailed,
        "{address}: too many wrong passphrases came from this address: the server listens to it again in {seconds} s",
        "Make sure of the passphrase meanwhile.",
    ),
    "join.full": Mistake(
        ConnectionFailed,
        "{address}: the server is busy letting others in: there is room again in about {seconds} s",
        "Nothing needs to be done here.",
    ),
    "join.not-ready": Mistake(
        ConnectionFailed,
        "{address}: the server is still being set up: it has no passphrase yet",
        "Nothing needs to be done here.",
    ),
    "known-servers.unreadable": Mistake(
        InputError,
        "{file} can't be read: {reason}",
        "Repair it, or delete it to trust every server anew.",
    ),
    "known-servers.unwritable": Mistake(
        InputError,
        "{file} can't be written: {reason}",
        _RIGHTS,
    ),
    # --- a link that stood ---
    "link.ended": Mistake(
        ConnectionFailed,
        "the link to {peer} ended: {reason}",
        "Now looking for the server again.",
    ),
    "link.closed": Mistake(
        ConnectionFailed,
        "the server at {address} closed the connection",
        "This client waits for the server to be there again; Ctrl-C ends it.",
    ),
}
