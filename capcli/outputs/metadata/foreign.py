"""Images that cannot take captions: Pillow reads their metadata, so that a person's texts are known."""

from __future__ import annotations

import contextlib
import io

from PIL import UnidentifiedImageError

from capcli.images.decode import open_image
from capcli.outputs.metadata import tiff, xmp
from capcli.outputs.metadata.container import EXIF_START, Container
from capcli.outputs.metadata.errors import MetadataError

ONLY = "captions can be written into JPEG, PNG, WebP and TIFF files only; with --xmp they go beside any image"


class Foreign(Container):
    """Hold an image in another format, such as HEIC, AVIF or BigTIFF."""

    refusal = ONLY

    def __init__(self, content: bytes, name: str = "") -> None:
        """Open a file. name: for its ending. Raises MetadataError if it is no image."""
        super().__init__(content)
        try:
            with open_image(io.BytesIO(content), name) as image:
                with contextlib.suppress(Exception):  # Pillow's plugins raise almost anything
                    exif = image.getexif()
                    exif.bigtiff = False  # the layout read here has shorter numbers
                    self.blocks[0] = tiff, exif.tobytes().removeprefix(EXIF_START)
                packet = image.info.get("xmp")
                if isinstance(packet, bytes):
                    self.blocks[1] = xmp, packet
        except UnidentifiedImageError:
            raise MetadataError("not an image in a format that can be read") from None
        except Exception:  # damaged, too large, or in need of an extra package
            return
