"""Acceptance on the device: one command that runs everything that a GPU must show, and a report that can be sent back."""
