"""The errors of the client; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ConnectionFailed, ErrorText, InputError, RefusedError, TrainingError

_PORT = "Check the port that the server shows."
_MOMENT = "Try again in a moment."

ERRORS: Mapping[str, ErrorText] = {
    "weights.too-few": ErrorText(
        InputError,
        "layer {layer!r} has at least {needed:,weight}, but {given:,} came with the model",
        "Weights and architecture must belong to the same model.",
    ),
    # --- what a server wants ---
    "task.impossible": ErrorText(
        TrainingError,
        "the server sent an invalid task: {field} is {value}, not {wanted}",
        "Install the same version of lanfit on both machines, and start the run again.",
    ),
    # --- a client looks for its server ---
    "connect.no-port": ErrorText(
        InputError,
        "{port} is not a valid port",
        "Give the port that the server shows, from 1 to 65535.",
    ),
    "connect.name-not-found-in-time": ErrorText(
        ConnectionFailed,
        "the name {host!r} could not be resolved within {seconds:g} s",
        "Check the spelling, or use the IP address that the server shows.",
    ),
    "connect.unknown-name": ErrorText(
        ConnectionFailed,
        "the name {host!r} can't be resolved",
        "Check the spelling, or use the IP address that the server shows.",
    ),
    "connect.silent": ErrorText(
        ConnectionFailed,
        "{address} accepts connections but did not answer within {seconds:g} s: not a lanfit server, or a busy one",
        "Check the port; if it is right, try again in a moment.",
    ),
    "connect.no-lanfit": ErrorText(
        ConnectionFailed,
        "{address} is not a lanfit server: another program answers there",
        _PORT,
    ),
    "connect.dropped": ErrorText(
        ConnectionFailed,
        "{address} closed the connection before identifying itself: a server that is shutting down, or another program",
        "Wait a moment; if the error persists, check the port that the server shows.",
    ),
    "connect.other-tls": ErrorText(
        ConnectionFailed,
        "{address} is not a lanfit server: another TLS server answers there",
        _PORT,
    ),
    # --- it logs in ---
    "join.silent": ErrorText(
        ConnectionFailed,
        "{address} did not continue the login for {seconds:g} s",
        _MOMENT,
    ),
    "join.cut-short": ErrorText(
        ConnectionFailed,
        "the login at {address} was not completed: {reason}",
        _MOMENT,
    ),
    "join.other-fingerprint": ErrorText(
        RefusedError,
        "{address} has the fingerprint {shown}, but {expected} was expected",
        "Compare it with the fingerprint that the server shows; if they differ, there may be a man in the middle.",
    ),
    "join.changed-fingerprint": ErrorText(
        RefusedError,
        "{address} has the fingerprint {shown}, but this machine knows it with {known}: another server, or a man in "
        "the middle",
        "Compare it with the fingerprint that the server shows. If the change is expected, pass the new one with "
        "--fingerprint, or delete {address!r} from {file}.",
    ),
    "join.passphrase": ErrorText(
        RefusedError,
        "{address}: wrong passphrase",
        "Ask the server's operator; typing p and Enter at its terminal shows the passphrase, which is case-sensitive.",
    ),
    "join.version": ErrorText(
        RefusedError,
        "{address}: the server uses {theirs} of the protocol, but this client uses version {ours}",
        "Install the same version of lanfit on both machines.",
    ),
    "join.banned": ErrorText(
        ConnectionFailed,
        "{address}: too many wrong passphrases from this address; the server accepts connections from it again in "
        "{seconds} s",
        "Check the passphrase in the meantime.",
    ),
    "join.full": ErrorText(
        ConnectionFailed,
        "{address}: the server is busy with other logins; it accepts more in about {seconds} s",
        "Wait: this client tries again by itself.",
    ),
    "join.not-ready": ErrorText(
        ConnectionFailed,
        "{address}: the server is still being set up and has no passphrase yet",
        "Wait: this client tries again by itself.",
    ),
    "known-servers.unreadable": ErrorText(
        InputError,
        "{file} can't be read: {reason}",
        "Repair it, or delete it to confirm the fingerprint of every server again.",
    ),
    "known-servers.unwritable": ErrorText(
        InputError,
        "{file} can't be written: {reason}",
        "Check the folder and its permissions.",
    ),
    "link.broken": ErrorText(
        ConnectionFailed,
        "the server at {address} violated the protocol: {reason}",
        "This client rejoins in {seconds:.0f} s; Ctrl-C stops it. If it happens again, install the same version of "
        "lanfit on both machines, and ask the server's operator.",
    ),
    "link.closed": ErrorText(
        ConnectionFailed,
        "the server at {address} closed the connection",
        "This client waits for the server to come back; Ctrl-C stops it.",
    ),
    "own-data.no-folder": ErrorText(
        InputError,
        "the folder {folder} does not exist (--data)",
        "Give a folder that contains the folders X and Y.",
    ),
    "own-data.not-allowed": ErrorText(
        InputError,
        "the user of this client has not allowed the server to use its data",
        "Start the client with the folder that contains X and Y: lanfit client {server} --data DIR. Or start it at a "
        "terminal without --data and answer yes when it asks.",
    ),
}
