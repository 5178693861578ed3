"""Blocks of arrays on disk: written, downloaded in resumable pieces, and what happens when the disk is full."""

from lanfit.errors import register
from lanfit.transfer.errors import ERRORS

register(ERRORS)
