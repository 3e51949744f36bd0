"""Tar files as WebDataset has them."""

import io
import tarfile
from pathlib import Path


def make_tar(path: Path, files: dict[str, bytes]) -> None:
    """Write a tar file. files: name → content."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
