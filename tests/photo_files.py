"""Files of photos, made by hand: with metadata of every kind, and raw ones, for want of a camera's."""

from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from fakes import PHOTOS, Found
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from capcli.outputs.metadata import Metadata
from capcli.outputs.metadata.xmp import DC, RDF

SHORT, LONG = 3, 4


def dng(picture: Image.Image, orientation: int = 1, preview: bool = True) -> bytes:
    """A file after the DNG specification 1.4: a JPEG of the picture in the first directory, raw pixels in another."""
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=95)
    shown, sensor = jpeg.getvalue(), bytes(64 * 48 * 2)
    strings = {271: b"Hand\0", 272: b"Made by hand\0", 50708: b"Made by hand\0"}
    first: dict[int, tuple[int, list[int]]] = {
        254: (LONG, [1]), 256: (LONG, [picture.width]), 257: (LONG, [picture.height]), 258: (SHORT, [8, 8, 8]),
        259: (SHORT, [7]), 262: (SHORT, [6]), 273: (LONG, [0]), 274: (SHORT, [orientation]), 277: (SHORT, [3]),
        278: (LONG, [picture.height]), 279: (LONG, [len(shown)]), 330: (LONG, [0]),
    }  # fmt: skip
    raw: dict[int, tuple[int, list[int]]] = {
        254: (LONG, [0]), 256: (LONG, [64]), 257: (LONG, [48]), 258: (SHORT, [16]), 259: (SHORT, [1]),
        262: (SHORT, [32803]), 273: (LONG, [0]), 277: (SHORT, [1]), 278: (LONG, [48]), 279: (LONG, [len(sensor)]),
        33421: (SHORT, [2, 2]),
    }  # fmt: skip
    if not preview:
        shown = b""
        first = {tag: field for tag, field in first.items() if tag in (274, 330)}
    body = bytearray(b"II*\0\0\0\0\0")

    def put(content: bytes) -> int:
        body.extend(b"\0" * (len(body) % 2))
        start = len(body)
        body.extend(content)
        return start

    def directory(fields: dict[int, tuple[int, list[int]]], more: dict[int, tuple[int, bytes]]) -> int:
        entries = {}
        for tag, (kind, values) in fields.items():
            entries[tag] = kind, len(values), struct.pack(f"<{len(values)}{'HI'[kind == LONG]}", *values)
        entries |= {tag: (kind, len(value), value) for tag, (kind, value) in more.items()}
        packed = b"".join(
            struct.pack("<HHI", tag, kind, count)
            + (value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", put(value)))
            for tag, (kind, count, value) in sorted(entries.items())
        )
        return put(struct.pack("<H", len(entries)) + packed + b"\0" * 4)

    raw[273] = LONG, [put(sensor)]
    first[330] = LONG, [directory(raw, {33422: (1, b"\0\1\1\2")})]
    if preview:
        first[273] = LONG, [put(shown)]
    texts = {tag: (2, text) for tag, text in strings.items()}
    start = directory(first, {**texts, 50706: (1, b"\1\4\0\0"), 50707: (1, b"\1\1\0\0")})
    body[4:8] = struct.pack("<I", start)
    return bytes(body)


XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">
 <rdf:Description rdf:about="uuid:1" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"/>
 <rdf:Description rdf:about="uuid:1" xmlns:d="{DC}">%s</rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()

IN_TWO_LANGUAGES = (
    b"<d:description><rdf:Alt> <rdf:li xml:lang='fr'>un chat</rdf:li>"
    b"<rdf:li xml:lang='x-default'>old &amp; good</rdf:li></rdf:Alt></d:description><d:source>x</d:source>"
)


def picture(mode: str = "RGB") -> Image.Image:
    noise = Image.frombytes("RGB", (16, 12), random.Random(3).randbytes(16 * 12 * 3))
    return noise.resize((40, 30), Image.Resampling.BICUBIC).convert(mode)


def exif() -> Image.Exif:
    made = Image.Exif()
    made[0x010F] = "A maker of cameras"
    made[0x0112] = 6
    made.get_ifd(0x8769)[0x927C] = b"a maker's note"
    made.get_ifd(0x8769)[0x9003] = "2020:02:02 02:02:02"
    return made


def encode(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def files() -> dict[str, bytes]:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "someone")
    compressed = PngImagePlugin.PngInfo()
    compressed.add_itxt("XML:com.adobe.xmp", (XMP % IN_TWO_LANGUAGES).decode(), zip=True)
    frames = [picture().rotate(90 * i) for i in range(3)]
    return {
        "plain.jpg": encode("JPEG"),
        "exif.jpg": encode("JPEG", exif=exif()),
        "xmp.jpg": encode("JPEG", xmp=XMP % b"<d:source>x</d:source>"),
        "all.jpg": encode(
            "JPEG", exif=exif(), xmp=XMP % b"", icc_profile=profile(), comment=b"hello", progressive=True
        ),
        "fill.jpg": encode("JPEG").replace(b"\xff\xdb", b"\xff\xff\xff\xdb", 1),
        "trailing.jpg": encode("JPEG") + b"a video of the same moment",
        "cmyk.jpg": encode("JPEG", picture("CMYK")),
        "plain.png": encode("PNG"),
        "text.png": encode("PNG", picture("RGBA"), pnginfo=text, exif=exif(), icc_profile=profile()),
        "compressed.png": encode("PNG", picture("P"), pnginfo=compressed),
        "animated.png": encode("PNG", frames[0], save_all=True, append_images=frames[1:]),
        "plain.tif": encode("TIFF"),
        "lzw.tif": encode("TIFF", compression="tiff_lzw", exif=exif()),
        "pages.tif": encode("TIFF", frames[0], save_all=True, append_images=frames[1:]),
        "big-endian.tif": big_endian_tiff(),
        "lossy.webp": encode("WEBP"),
        "lossless.webp": encode("WEBP", picture("RGBA"), lossless=True),
        "all.webp": encode("WEBP", exif=exif(), xmp=XMP % IN_TWO_LANGUAGES, icc_profile=profile()),
        "animated.webp": encode("WEBP", frames[0], save_all=True, append_images=frames[1:]),
    }


def big_endian_tiff() -> bytes:
    """A grey picture of 4×2 pixels, as some scanners write it."""
    tags = {256: 4, 257: 2, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 2, 279: 8}
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"MM\0*" + struct.pack(">I", 16) + bytes(range(0, 240, 30)) + struct.pack(">H", 9) + entries + b"\0" * 4


def frames_of(content: bytes) -> list[bytes]:
    with Image.open(io.BytesIO(content)) as image:
        found = []
        for frame in range(getattr(image, "n_frames", 1)):
            image.seek(frame)
            found.append(f"{image.mode} {image.size} ".encode() + image.tobytes())
        return found


def with_segment(marker: int, payload: bytes) -> bytes:
    return b"\xff\xd8" + struct.pack(">BBH", 255, marker, len(payload) + 2) + payload + files()["plain.jpg"][2:]


KEYWORD, CITY = (2, 25, b"birthday"), (2, 90, b"Hamburg")

KURZ = XMP % b"<d:description><rdf:Alt><rdf:li xml:lang='x-default'>kurz</rdf:li></rdf:Alt></d:description>"


def described(text: str | bytes) -> Image.Exif:
    made = exif()
    made[0x010E] = text
    return made


def block(*datasets: tuple[int, int, bytes]) -> bytes:
    return b"".join(b"\x1c" + bytes(d[:2]) + struct.pack(">H", len(d[2])) + d[2] for d in datasets)


def human(text: bytes = b"Grandma's 80th birthday") -> bytes:
    return block((2, 0, b"\0\4"), KEYWORD, (2, 120, text), CITY)


def resource(number: int, value: bytes, name: bytes = b"") -> bytes:
    head = b"8BIM" + struct.pack(">HB", number, len(name)) + name
    return head + b"\0" * (len(head) % 2) + struct.pack(">I", len(value)) + value + b"\0" * (len(value) % 2)


THUMBNAIL = resource(0x040C, bytes(range(255)), b"a name")


def app13(payload: bytes) -> bytes:
    payload = b"Photoshop 3.0\0" + payload
    return struct.pack(">BBH", 0xFF, 0xED, len(payload) + 2) + payload


def jpeg(*segments: bytes) -> bytes:
    plain = files()["plain.jpg"]
    return plain[:20] + b"".join(segments) + plain[20:]  # behind JFIF's


def jpeg_with(iptc: bytes, *more: bytes) -> bytes:
    return jpeg(app13(THUMBNAIL + resource(0x0404, iptc) + b"".join(more)))


def tiff_with(iptc: bytes, *more: bytes, is_long: bool = False) -> bytes:
    """is_long: in a field of 32-bit numbers, as Photoshop has it."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    iptc += b"\0" * (-len(iptc) % 4 if is_long else 0)
    for tag, value in ((0x83BB, iptc), (0x8649, b"".join(more))):
        if value:
            tags[tag], tags.tagtype[tag] = value, 7
    made, entry = encode("TIFF", tiffinfo=tags), struct.pack("<HHI", 0x83BB, 7, len(iptc))
    assert entry in made
    return made.replace(entry, struct.pack("<HHI", 0x83BB, 4, len(iptc) // 4)) if is_long else made


def png_with(iptc: bytes, name: bytes = b"8bim") -> bytes:
    return png_with_profile(b"Raw profile type iptc", name, resource(0x0404, iptc))


def png_with_profile(keyword: bytes, name: bytes, raw: bytes) -> bytes:
    digits = raw.hex().encode()
    lines = b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))  # as ImageMagick breaks them
    return png_with_text(keyword, b"\n" + name + b"\n%8d\n" % len(raw) + lines + b"\n")


def png_with_text(keyword: bytes, text: bytes) -> bytes:
    data = keyword + b"\0\0" + zlib.compress(text)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    plain = encode("PNG")
    return plain[:33] + chunk + plain[33:]


def all_formats(iptc: bytes) -> dict[str, bytes]:
    made = exif()
    made[0x83BB] = iptc
    return {
        "a.jpg": jpeg_with(iptc),
        "a.png": png_with(iptc),
        "exiftool.png": png_with(iptc, b"IPTC profile"),
        "a.webp": encode("WEBP", exif=made),
        "a.tif": tiff_with(iptc),
        "long.tif": tiff_with(iptc, is_long=True),
        "photoshop.tif": tiff_with(iptc, THUMBNAIL, resource(0x0404, iptc)),
    }


def caption(path: Path, existing: str, text: str = "a cat") -> bytes:
    Metadata(existing).write(Found(str(path), text))  # type: ignore[arg-type]
    return path.read_bytes()


def iptc_of(content: bytes) -> bytes:
    """The block, found by Pillow."""
    with Image.open(io.BytesIO(content)) as image:
        if image.format == "JPEG":
            return image.info["photoshop"][0x0404]
        return image.tag_v2[0x83BB]  # type: ignore[attr-defined]


def read_resources(content: bytes) -> bytes:
    """All of a JPEG's Photoshop resources."""
    found = b""
    while (at := content.find(b"Photoshop 3.0\0")) > 0:
        (length,) = struct.unpack_from(">H", content, at - 2)
        found, content = found + content[at + 14 : at - 2 + length], content[at - 2 + length :]
    return found


XP_COMMENT, USER_COMMENT = 0x9C9C, 0x9286


def commented(comment: bytes) -> bytes:
    made = exif()
    made.get_ifd(0x8769)[USER_COMMENT] = comment
    return encode("JPEG", exif=made)


def two_captions() -> dict[str, bytes]:
    """Photos with one person's words in EXIF, or a PNG's Description, and another's in XMP."""
    grandma = described("Grandma's 80th birthday")
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", "Grandma's 80th birthday")
    text.add_itxt("XML:com.adobe.xmp", KURZ.decode())
    tiff = described("Grandma's 80th birthday")
    tiff[700] = KURZ
    return {
        "a.jpg": encode("JPEG", exif=grandma, xmp=KURZ),
        "a.png": encode("PNG", pnginfo=text),
        "exif.png": encode("PNG", exif=grandma, pnginfo=text),
        "a.webp": encode("WEBP", exif=grandma, xmp=KURZ),
        "a.tif": encode("TIFF", exif=tiff),
    }


def put(path: Path, existing: str, text: str = "a cat") -> Metadata:
    metadata = Metadata(existing)
    metadata.write(Found(str(path), text))  # type: ignore[arg-type]
    return metadata


def big_tiff(description: str) -> bytes:
    """A BigTIFF file, whose directories capcli does not write."""
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "TIFF", big_tiff=True, description=description)
    assert buffer.getvalue().startswith(b"II+\0")
    return buffer.getvalue()


def save_photo(path: Path, image: Image.Image, rotated: bool) -> None:
    """As a camera held upright or on its side stores it."""
    exif = Image.Exif()
    if rotated:
        exif[0x0112] = 6  # to be turned a quarter to the right
        image = image.transpose(Image.Transpose.ROTATE_90)
    image.save(path, exif=exif)


def crop(name: str, number: int) -> Image.Image:
    """A part of a photo; each number shows another."""
    rng = np.random.default_rng(number)
    with Image.open(PHOTOS / f"{name}.jpg") as whole:
        width, height = whole.size
        left, top = (int(rng.uniform(0, 0.2) * side) for side in (width, height))
        return whole.crop((left, top, left + int(0.75 * width), top + int(0.75 * height))).convert("RGB")
