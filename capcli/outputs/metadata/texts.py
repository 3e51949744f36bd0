"""The texts in metadata: where they stand, how their bytes are read, and which of them are nobody's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from capcli.outputs.metadata.errors import MetadataError

Change = Callable[[str], str]  # the text that is there, "" for none → the text that is to be there

# What a caption is looked for in, the first first. Only WRITTEN are changed.
WRITTEN = ("XMP", "PNG", "EXIF", "IPTC")
PLACES = (*WRITTEN, "UserComment", "translation")

# What cameras, phones and editors write by themselves, letter by letter but for the spaces. Collected from what photo
# managers leave out: PhotoPrism (internal/meta/sanitize.go and its pull request 5078) and iNaturalist (issue 1323,
# BRANDED_DESCRIPTIONS), without the entries that a person may well have written, "Scanner", "smart", "burst" …, and
# from GIMP's and Photoshop's files among Pillow's test images.
CAMERA_DEFAULTS = frozenset(
    {
        "OLYMPUS DIGITAL CAMERA", "SONY DSC", "MINOLTA DIGITAL CAMERA", "KONICA MINOLTA DIGITAL CAMERA",
        "KODAK Digital Still Camera", "DIGITAL CAMERA", "Digital Camera", "MEDION DIGITAL CAMERA",
        "SAMSUNG", "SAMSUNG CAMERA PICTURES", "SAMSUNG DIGITAL CAMERA", "MOULTRIE DIGITAL GAME CAMERA",
        "HELLOMOTO", "DVC 10.1 HDMI", "default", "Exif_JPEG_PICTURE", "binary comment", "charset=Ascii",
        "Created by Imlib", "Created with GIMP", "Created with The GIMP",
    }
)  # fmt: skip
# <Digimax i5, Samsung #1>, <KENOX S1050  / Samsung S1050>; DCIM\100MEDIA\DJI_0001.JPG; with a sign that is no letter
CAMERA_PATTERN = re.compile(r"<[^<>]*Samsung[^<>]*>|DCIM\\\S*|File written by Adobe Photoshop\W* [\d.]+|")
# How a phone took the photo, in short words that mean something elsewhere: nobody's only where the maker is this one.
PHONE_MAKERS = ("HUAWEI", "HONOR")
PHONE_CODES = frozenset(
    "rhdr hdr hdrpl oznor oznorWO frontbhdp fbt fbthdr rbt rpt ptr btr btf btfhdr btfmdn mon nor dav mde mde_soft edf "
    "frem burst sdr_HDRB cof qrf fshbty smart bsh _cuva".split()
)
# Descriptions that programs read again, of microscopes above all: OME-XML, ImageJ, tifffile's JSON.
PROGRAM_DATA = re.compile(r"<\?xml|<OME|ImageJ=|SCANIMAGE|\{\s*\"")


class Found(NamedTuple):
    """A text, and which of PLACES it stands in."""

    place: str
    text: str


def words(text: str, maker: str = "") -> str:
    """Return the text if it is somebody's words, "" for what cameras write by themselves. maker: of the camera."""
    plain = " ".join(text.split())
    if plain in CAMERA_DEFAULTS or CAMERA_PATTERN.fullmatch(plain):
        return ""
    if plain in PHONE_CODES and maker.upper().startswith(PHONE_MAKERS):
        return ""
    return text


def decode(raw: bytes) -> tuple[str, str]:
    """Return a text without the white space around it, and the encoding that it seems to have: UTF-8, or what Windows
    takes for Latin-1, or one in which each byte is a character and comes out again as it was."""
    for codec in ("utf-8", "cp1252"):
        try:
            return raw.decode(codec).strip(), codec
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1").strip(), "latin-1"


def rewrite(raw: bytes, change: Change) -> bytes:
    """Return a text's bytes after a change: as they were where nothing changes, in the same encoding where something is
    added, else in UTF-8. Raises MetadataError where that encoding has no place for what is added."""
    old, codec = decode(raw)
    new = change(old)
    if new == old:
        return raw
    try:
        return new.encode(codec if old and old in new else "utf-8")
    except UnicodeEncodeError:
        raise MetadataError(f"its caption is in an encoding that cannot hold the new one ({codec})") from None
