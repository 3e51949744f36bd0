"""`capcli write --remove`: what capcli wrote is taken out of images and of the files beside them."""

from __future__ import annotations

from capcli.cli.messages import say, show_change
from capcli.cli.run import collecting, count
from capcli.results import ImageError

INEXACT = "its texts are as before, its bytes are not"


def take_out(paths: list[str], cache: str | None, dry_run: bool) -> int:
    """Take out what capcli wrote, and return the exit status.

    paths: images, folders and globs.
    cache: the database that knows texts beside images; None for none.
    """
    from capcli.cli.rules import require_presence
    from capcli.cli.writing import read_written
    from capcli.files import OutputError
    from capcli.images.find import find_images
    from capcli.outputs.originals import folders_of
    from capcli.outputs.removal import Removal

    require_presence(paths, None)
    removal = Removal(read_written(cache), folders_of(paths), dry_run)
    files = exact = failed = 0
    try:
        for image in find_images(paths):
            wrong = [image] if isinstance(image, ImageError) else []
            path = image.path if isinstance(image, ImageError) else image
            with collecting(wrong, path):
                for removed in removal.of_image(path, wrong) if not wrong else ():
                    files += bool(removed.texts)
                    exact += removed.exact
                    for change in removed.texts if dry_run else ():
                        show_change(path, *change)
                    for note in removed.notes or ([] if removed.exact else [INEXACT]):
                        say(f"{removed.path}: {note}")
            failed += bool(wrong)
            for error in wrong:
                say(error)
    except OutputError as error:
        say(error)
        return 1
    what = f"capcli's texts {'would be ' if dry_run else ''}taken out of {count(files, 'file')}"
    say(f"{what}, {exact} of them as before byte for byte" + (f"; {failed} failed" if failed else ""))
    return 1 if failed else 0
