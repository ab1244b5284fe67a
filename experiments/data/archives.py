"""The files of a data set's archive, whether it is packed or not."""

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path


def files(archive: Path, top: str) -> Iterator[tuple[str, bytes]]:
    """Yields the files under one folder of an archive, or of that folder itself, in its order.

    Args:
        archive: the folder, or a zip or tar file that has it at its top.
        top: name of the folder.

    Yields:
        Pairs of the path inside the folder, with forward slashes, and the contents.

    Raises:
        ValueError: if the file is neither zip nor tar, or damaged.
    """
    if archive.is_dir():
        for path in sorted(archive.rglob("*")):
            if path.is_file():
                yield path.relative_to(archive).as_posix(), path.read_bytes()
        return
    for name, contents in _packed(archive):
        first, _, rest = name.removeprefix("./").partition("/")
        if first == top:
            yield rest, contents


def _packed(archive):
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                for member in packed.infolist():
                    if not member.is_dir():
                        yield member.filename, packed.read(member)
        else:
            with tarfile.open(archive, "r|*") as packed:
                for member in packed:
                    if member.isfile():
                        yield member.name, packed.extractfile(member).read()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"Expected a complete zip or tar file. Received: {archive} ({error}). "
            "Get the archive again."
        ) from error
