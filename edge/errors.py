"""The one kind of error that is the user's to fix: the command line shows it as a single line and exits with 2."""

from __future__ import annotations


class UserError(Exception):
    """Something outside the program is wrong. The message is one sentence: what, where, and what to do about it."""
