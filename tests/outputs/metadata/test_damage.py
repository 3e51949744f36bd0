"""Damaged metadata costs an error, or takes the caption.

CAPCLI_FULL_TESTS=1 pytest tests/outputs/metadata/test_damage.py tries 40,000 damaged files instead of 3,200.
"""

import random

from damage import MUTATIONS, damage
from photo_files import all_formats, commented, human, jpeg_with, resource, two_captions

from capcli.outputs.metadata import MetadataError, parse
from capcli.outputs.metadata.fields import Filling


def test_damaged_metadata_costs_an_error_or_takes_the_caption() -> None:
    files = [*all_formats(human()).values(), *two_captions().values()]
    files += [jpeg_with(human(), resource(0x0425, bytes(16)))]
    files += [commented(b"UNICODE\0" + "Jo".encode("utf-16-le"))]
    rng = random.Random(8)
    written = 0
    for _ in range(20 * MUTATIONS):
        content, text = damage(rng, files), rng.choice(("a cat", "eine Hündin", "猫", "x" * 500))
        filling = Filling(existing=rng.choice(("skip", "overwrite", "append", "prepend")))
        try:
            after = filling.filled(parse(content), text)
            assert parse(after).caption
            written += 1
        except MetadataError:
            pass
    assert 2 * MUTATIONS < written < 18 * MUTATIONS
