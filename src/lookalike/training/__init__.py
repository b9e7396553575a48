"""Learning with torch: a head on vectors that stay, or a whole network; only in a process of its own.

``python -m lookalike.training FOLDER`` reads a :class:`~lookalike.training.request.Request` as JSON from stdin and what
is learned from in FOLDER, and leaves the result there, or ``error.json``. ``lookalike train --loss`` starts it.
"""
