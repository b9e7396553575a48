"""torch model -> ONNX encoder: the only package that imports torch, and only in a process of its own.

``python -m lookalike.exporting FOLDER`` reads a :class:`~lookalike.exporting.request.Request` as JSON from stdin and
leaves in FOLDER an encoder's files and its card, or ``error.json``. ``lookalike encoders export`` starts it and
installs what it made; nothing else imports this package, so that searching never loads torch.
"""
