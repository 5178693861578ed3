"""Blocks of arrays on disk: written, downloaded in resumable chunks, and retried when the disk is full."""

from lanfit.errors import register
from lanfit.transfer.errors import ERRORS

register(ERRORS)
