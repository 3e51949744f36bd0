"""Texts in metadata: their places, their decoding, and which of them no person wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from capcli.outputs.metadata.errors import MetadataError

T = TypeVar("T")
# From a place and the text there, "" for none, to the text to write; "" leaves none.
Change = Callable[[str, str], str]
Listing = Callable[[str, tuple[str, ...]], tuple[str, ...]]  # from a place and the keywords there to those to write

# Where captions may be, in this order. Only WRITTEN ones are changed.
WRITTEN = ("XMP", "PNG", "EXIF", "IPTC")
PLACES = (*WRITTEN, "UserComment", "translation")

# What cameras, phones and editors write by themselves; white space may differ. From the lists of what PhotoPrism
# (internal/meta/sanitize.go and its pull request 5078) and iNaturalist (issue 1323, BRANDED_DESCRIPTIONS) ignore,
# without entries that a person may well have written ("Scanner", "smart", "burst" …), and from GIMP's and Photoshop's
# files among Pillow's test images.
CAMERA_DEFAULTS = frozenset(
    {
        "OLYMPUS DIGITAL CAMERA", "SONY DSC", "MINOLTA DIGITAL CAMERA", "KONICA MINOLTA DIGITAL CAMERA",
        "KODAK Digital Still Camera", "DIGITAL CAMERA", "Digital Camera", "MEDION DIGITAL CAMERA",
        "SAMSUNG", "SAMSUNG CAMERA PICTURES", "SAMSUNG DIGITAL CAMERA", "MOULTRIE DIGITAL GAME CAMERA",
        "HELLOMOTO", "DVC 10.1 HDMI", "default", "Exif_JPEG_PICTURE", "binary comment", "charset=Ascii",
        "Created by Imlib", "Created with GIMP", "Created with The GIMP", "AppleMark", "Screenshot",
    }
)  # fmt: skip
# Such as <Digimax i5, Samsung #1>, <KENOX S1050  / Samsung S1050>, DCIM\100MEDIA\DJI_0001.JPG, Oplus_16908288,
# "CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90", and Photoshop's version, which has a sign after its name.
# Programs say what they did and end with their version, which is no date: "Optimized by JPEGmini 3.14.2.84235 0x5b2f".
# An empty text matches too.
CAMERA_PATTERN = re.compile(
    r"<[^<>]*Samsung[^<>]*>|DCIM\\\S*|[Oo]plus_\d+|CREATOR: gd-jpeg.*|LEAD Technologies .*|Intel\(R\) JPEG Library.*|"
    r"Lavc[\d.]+|File written by Adobe Photoshop\W* [\d.]+|"
    r"(?i:(?:optimi[sz]ed|processed|generated|compressed|converted|encoded) by|"
    r"(?:optimi[sz]ed|processed|generated|compressed|converted|encoded|created|edited|exported) (?:with|using))"
    r"(?: [^\W\d]\S*){1,4} v?(?!\d\d?\.\d\d?\.(?:\d\d){1,2}$)\d+(?:\.\d+)+(?: 0x[\da-f]+)?|"
)
# How phones note their settings: "filter: 0; fileterIntensity: 0.0; module: photo; touch: (-1.0, -1.0); albedo: ;".
SETTING = re.compile(r"\s*([A-Za-z][\w-]*) ?: ?(?:\([-\d., ]*\)|[-\d.,]*|([a-z]\w*))\s*")
PROGRAMMERS_NAME = re.compile("[a-z][A-Z]|_")
# How a phone took the photo. As a person may have written such short words, they count only for these makers.
PHONE_MAKERS = ("HUAWEI", "HONOR")
PHONE_CODES = frozenset(
    "rhdr hdr hdrpl oznor oznorWO frontbhdp fbt fbthdr rbt rpt ptr btr btf btfhdr btfmdn mon nor dav mde mde_soft edf "
    "frem burst sdr_HDRB cof qrf fshbty smart bsh _cuva".split()
)
# Descriptions that programs, mostly for microscopes, read again: OME-XML, ImageJ, tifffile's JSON.
PROGRAM_DATA = re.compile(r"<\?xml|<OME|ImageJ=|SCANIMAGE|\{\s*\"")


def same(place: str, value: T) -> T:
    """Change nothing."""
    return value


class Found(NamedTuple):
    """Hold a text, in one of PLACES and one of existing.FIELDS; each keyword is a text."""

    place: str
    text: str
    field: str = "description"


@dataclass(frozen=True)
class ShownTexts:
    """Hold what photo managers show of an image, in each of existing.FIELDS; empty if missing."""

    description: str = ""
    alt: str = ""
    keywords: tuple[str, ...] = ()

    def over(self, other: ShownTexts) -> ShownTexts:
        """Return these texts, with missing ones taken from another."""
        return ShownTexts(**{name: value or getattr(other, name) for name, value in vars(self).items()})


NOTHING = ShownTexts()


class Edit(NamedTuple):
    """Say how to change a file's texts.

    description, alt: applied to each of these texts.
    keywords: applied to each list of keywords.
    writer: applied to the description's writer.
    record: applied to what capcli remembers of its texts, in XMP.
    declared: whether an IPTC block may declare UTF-8; False takes that back.
    """

    description: Change = same
    alt: Change = same
    keywords: Listing = same
    writer: Change = same
    record: Change = same
    declared: bool = True


def words(text: str, maker: str = "") -> str:
    """Return a text if a person wrote it, "" for a camera's or program's. maker: of the camera, "" if unknown."""
    plain = " ".join(text.split())
    if plain in CAMERA_DEFAULTS or CAMERA_PATTERN.fullmatch(plain) or are_settings(plain):
        return ""
    if plain in PHONE_CODES and maker.upper().startswith(PHONE_MAKERS):
        return ""
    return text


def are_settings(text: str) -> bool:
    """Return whether a text lists settings, at least one named as in code and one whose value is no word."""
    pieces = [SETTING.fullmatch(piece) for piece in text.split(";") if piece.strip()]
    found = [each for each in pieces if each]
    programs = any(PROGRAMMERS_NAME.search(each[1]) for each in found) and not all(each[2] for each in found)
    return programs and len(found) == len(pieces) > 1


def decode_text(raw: bytes) -> tuple[str, str]:
    """Return a stripped text, and its likely encoding.

    UTF-8, else Windows' Latin-1 (cp1252), else Latin-1, which has a character for every byte, so that encoding gives
    the same bytes.
    """
    for codec in ("utf-8", "cp1252"):
        try:
            return raw.decode(codec).strip(), codec
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1").strip(), "latin-1"


def rewrite(raw: bytes, change: Change, place: str) -> bytes:
    """Return a text's bytes after a change, or the same bytes if nothing changes.

    An extended text keeps its encoding; a replaced one becomes UTF-8.

    Raises MetadataError if the encoding kept cannot hold the addition.
    """
    old, codec = decode_text(raw)
    new = change(place, old)
    if new == old:
        return raw
    try:
        return new.encode(codec if old and (old in new or new in old) else "utf-8")
    except UnicodeEncodeError:
        raise MetadataError(f"its caption is in an encoding that cannot hold the new one ({codec})") from None


def joined(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    """Return keywords, none empty, none twice whatever its case. old: come first."""
    keywords: dict[str, str] = {}
    for keyword in (*old, *new):
        keywords.setdefault(keyword.casefold(), keyword)
    return tuple(keyword for keyword in keywords.values() if keyword)
