"""Files, folders, bytes and arrays -> Image. This package alone imports Pillow, simplejpeg,
pillow-heif and pydicom.

    walk(root)          which files of a folder may be pictures, and why the others are not
    read_file(path)     the bytes of one file, whole and of one moment
    read(source)        a picture: upright, sRGB, opaque
    thumbnail(image)    a small JPEG of it
    drawing             heat, links and pages for people

No name is trusted to tell what a file holds, and no header how much memory it takes.
"""

from __future__ import annotations

from lookalike.images.color import BACKGROUND
from lookalike.images.files import FileBytes, read_file
from lookalike.images.limits import Limits
from lookalike.images.reading import read, read_bytes
from lookalike.images.thumbnails import thumbnail
from lookalike.images.walk import Found, walk

__all__ = ["BACKGROUND", "FileBytes", "Found", "Limits", "read", "read_bytes", "read_file", "thumbnail", "walk"]
