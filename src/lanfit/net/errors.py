"""The errors of addresses, connections and logins; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ConnectionFailed, ErrorText, InputError

_NEW_IDENTITY = "Move it away to create a new one; clients that know the old fingerprint will refuse the new one."
_RIGHTS = "Check the folder and its permissions."
_SPELLING = "Check the spelling, or use the IP address that the server shows."

ERRORS: Mapping[str, ErrorText] = {
    # --- addresses ---
    "address.none": ErrorText(
        InputError,
        "{text!r} is not a valid server address",
        "Give its IP address or name, as the server shows it: 192.168.1.20, 192.168.1.20:8470 or [fd00::1]:8470.",
    ),
    "address.no-port": ErrorText(
        InputError,
        "{text!r}: {port!r} is not a valid port",
        "Give a number from 1 to 65535 after the colon, as in 192.168.1.20:8470; the default is 8470.",
    ),
    "address.not-ipv4": ErrorText(
        InputError,
        "{host!r} is not a valid IPv4 address: four numbers from 0 to 255, separated by dots",
        _SPELLING,
    ),
    "address.not-ipv6": ErrorText(
        InputError,
        "{host!r} is not a valid IPv6 address",
        "Check the spelling; write an IPv6 address in brackets if a port follows, as in [fd00::1]:8470.",
    ),
    "address.ambiguous": ErrorText(
        InputError,
        "{text} may be an IPv6 address, or the address {host} with the port {port}",
        "Type [{host}]:{port} if {port} is the port, otherwise [{text}].",
    ),
    "address.all": ErrorText(
        InputError,
        "{host} means all addresses of a machine: clients can't connect to it",
        "Use the address that the server shows.",
    ),
    "address.no-zone": ErrorText(
        InputError,
        "{host} is a link-local address: it needs an interface of this machine",
        "Add one, as in {host}%{zone}; this machine has: {zones}.",
    ),
    "address.other-zone": ErrorText(
        InputError,
        "{host} names an interface that this machine does not have",
        "After the %, give an interface of this machine, not of the server. This machine has: {zones}.",
    ),
    # --- the server listens ---
    "listen.no-port": ErrorText(
        InputError,
        "{port} is not a valid port",
        "Choose one from 1 to 65535.",
    ),
    "listen.unknown-name": ErrorText(
        InputError,
        "{host!r} is not an address or name of this machine: {reason}",
        "Use 0.0.0.0 to listen on all its addresses.",
    ),
    "listen.with-port": ErrorText(
        InputError,
        "{host!r} is an address with a port, but the port is a separate setting",
        "Give {address} as the address, and {port} as the port (--port).",
    ),
    "listen.port-in-use": ErrorText(
        InputError,
        "port {port} is in use on {address}",
        "Stop the program that uses it, which may be another lanfit server, or choose another port with --port.",
    ),
    "listen.port-forbidden": ErrorText(
        InputError,
        "permission to use port {port} was denied",
        "Choose a port above 1023 with --port.",
    ),
    "listen.port-reserved": ErrorText(
        InputError,
        "port {port} can't be used: the operating system has reserved it",
        "Choose another port with --port. On Windows, Hyper-V, WSL and Docker reserve ranges of ports; `netsh "
        "interface ipv4 show excludedportrange protocol=tcp` lists them.",
    ),
    "listen.other-machine": ErrorText(
        InputError,
        "{address} is not an address of this machine",
        "Use 0.0.0.0 to listen on all its addresses.",
    ),
    "listen.failed": ErrorText(
        InputError,
        "can't listen on port {port} of {address}: {reason}",
        "Choose another port with --port.",
    ),
    # --- the server's identity ---
    "identity.unusable": ErrorText(
        InputError,
        "{file} can't be read or written: {reason}",
        _RIGHTS,
    ),
    "identity.damaged": ErrorText(
        InputError,
        "{file} is not a valid lanfit server identity: {reason}",
        _NEW_IDENTITY,
    ),
    "identity.damaged-ids": ErrorText(
        InputError,
        "{file} does not contain the ids of a lanfit server: {reason}",
        "Restore a copy of it. Or move it away to create new ids; then no run of this workspace can be resumed, and "
        "results that clients still hold for it are rejected.",
    ),
    "identity.other-key": ErrorText(
        InputError,
        "the key in {file} does not match its certificate ({reason})",
        _NEW_IDENTITY,
    ),
    "fingerprint.malformed": ErrorText(
        InputError,
        "{text!r} is not a valid fingerprint: {why}",
        "Copy the value that the server shows after --fingerprint; dashes and letter case do not matter.",
    ),
    "connect.no-answer": ErrorText(
        ConnectionFailed,
        "no answer from {address} within {seconds:g} s: most likely a firewall, or a wrong address",
        "Check the address, that both machines are on the same network, and that the server's firewall allows TCP port "
        "{port}.",
    ),
    "connect.nobody-listens": ErrorText(
        ConnectionFailed,
        "{address} refused the connection: the machine is reachable, but no server listens on this port",
        "Start the server, or check the port.",
    ),
    "connect.rejected": ErrorText(
        ConnectionFailed,
        "{address} can't be reached: a firewall rejects the connection, or no machine has this address",
        "Allow TCP port {port} in the server's firewall (firewalld: `firewall-cmd --add-port={port}/tcp`), and check "
        "the address.",
    ),
    "connect.nobody-there": ErrorText(
        ConnectionFailed,
        "no machine answers at {address}: it is off, has another address, or is on another network",
        "Compare the address with the one that the server shows. A firewall can cause the same error.",
    ),
    "connect.no-way": ErrorText(
        ConnectionFailed,
        "this machine has no route to {address}: {reason}",
        "Check the address, and that this machine is connected to the server's network.",
    ),
    "connect.failed": ErrorText(
        ConnectionFailed,
        "{address} can't be reached: {reason}",
        "Check the address and the network.",
    ),
    # --- an open link ---
    "link.ended": ErrorText(
        ConnectionFailed,
        "the link to {peer} ended: {reason}",
        "This client is looking for the server again.",
    ),
}
