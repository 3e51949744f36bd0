"""Alt texts that say nothing: a file's name, a word such as "image", or another image's words."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from capcli.outputs.alt.gaps import is_picture

# "image", "a photo of", "Bild 3", as programs and forms leave them, in the languages of most pages.
WORDS = (
    "image|img|photo|photograph|picture|pic|graphic|illustration|thumbnail|screenshot|placeholder|untitled|figure|fig"
    "|alt|alt text|alternative text|description|caption|null|undefined|none|todo|tbd"
    "|bild|abbildung|grafik|foto|fotografie|imagen|imagem|immagine|afbeelding|obraz|изображение|фото|图片|图像|画像|写真"
)
EMPTY_WORD = re.compile(rf"(?:(?:an?|the|my)\s+)?(?:{WORDS})s?(?:\s+of)?[\s\W_]*[0-9]*[\s\W_]*", re.I)
# As cameras, phones and messengers number their files.
NUMBERED = re.compile(
    r"(?:_?img|dsc[nf]?|_dsc|pxl|mvimg|dji|gopr|p|imag|sam|dscn|cimg|screenshot|whatsapp image|signal)[-_ ]?"
    r"[0-9]{3,}[\w\-. ]*",
    re.I,
)
CAPTION = 3  # words, at least: shorter texts, such as a maker's name, may be right for several images


def why_silent(text: str, address: str) -> str:
    """Return why an image's alt text says nothing, or an empty string.

    text: not empty.
    address: of the image, or empty.
    """
    said = text.strip()
    if not said:
        return "its alt text is only white space"
    stem = os.path.splitext(unquote(re.split("[?#]", address, maxsplit=1)[0]).replace("\\", "/").rpartition("/")[2])[0]
    named_as_it = said.casefold() == stem.casefold() and re.search(r"[\d_-]", said)
    if named_as_it or NUMBERED.fullmatch(said) or (is_picture(said) and not re.search(r"\s\S+\s", said)):
        return f'its alt text is the name of a file: "{said}"'
    if EMPTY_WORD.fullmatch(said) or re.fullmatch(r"[!-/:-@\[-`{-~\s]+", said):
        return f'its alt text says nothing: "{said}"'
    return ""


class Heard:
    """Hold a page's alt texts so far, to tell those that two images share."""

    def __init__(self) -> None:
        self.first: dict[str, tuple[str, int]] = {}

    def why_silent(self, text: str, address: str, line: int) -> str:
        """Return why the next alt text of the page says nothing, or an empty string. line: of the image."""
        if why := why_silent(text, address):
            return why
        words = text.casefold().split()
        known, where = self.first.setdefault(" ".join(words), (address, line))
        if known == address or len(words) < CAPTION:
            return ""
        return f'its alt text is that of another image, in line {where}: "{text.strip()}"'
