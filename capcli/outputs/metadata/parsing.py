"""Parsing an image file: which container it is, or why no caption can be written into it."""

from __future__ import annotations

import io

from PIL import UnidentifiedImageError

from capcli.images.decode import open_image
from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.jpeg import Jpeg
from capcli.outputs.metadata.png import PNG_SIGNATURE, Png
from capcli.outputs.metadata.tiff_file import Tiff
from capcli.outputs.metadata.webp import WebP

RAW_ENDINGS = tuple(".3fr .arw .cr2 .dcr .dng .erf .iiq .kdc .mef .mos .nef .nrw .pef .raw .rw2 .sr2 .srf .srw".split())


def parse(content: bytes, name: str = "") -> Container:
    """Return an image file, parsed.

    content: of the file.
    name: of the file; cameras' raw files are told from TIFF files by their endings.

    Raises MetadataError for a file that is damaged, or of a format that cannot take a caption.
    """
    if content.startswith(b"\xff\xd8\xff"):
        return Jpeg(content)
    if content.startswith(PNG_SIGNATURE):
        return Png(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return WebP(content)
    # Cameras' raw files are TIFF too, but some makers' programs expect the directory where the camera put it.
    if content.startswith((b"II*\0", b"MM\0*")) and content[8:10] != b"CR" and not name.lower().endswith(RAW_ENDINGS):
        return Tiff(content)
    if not content:
        raise MetadataError("the file is empty")
    if not is_picture(content, name):
        raise MetadataError("not an image in a format that can be read")
    raise MetadataError("captions can be written into JPEG, PNG, WebP and TIFF files only")


def is_picture(content: bytes, name: str) -> bool:
    """Return whether a file is an image, even if no caption can be written into it."""
    try:
        open_image(io.BytesIO(content), name).close()
    except UnidentifiedImageError:
        return False
    except Exception:  # an image that is damaged, too large, or needs an extra package
        return True
    return True
