"""A folder's copy in a bucket, kept so that at any moment a run can be continued from it on another machine."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from trajvit.datasets.bucket import Bucket

RESULTS, INDEX, MANIFEST = "results", "RESULTS.json", "manifest.json"
PASSES = 5


class Mirror:
    """Copies what has changed in `folder` to `results/` in a bucket.

    `RESULTS.json` there lists what belongs together. It is written after everything that it lists, and what it no longer
    lists is deleted after it, so that a copy cut short leaves the last whole one, never half a checkpoint. The run's manifest
    goes after all other files and their list, since it says which of them are done.
    """

    def __init__(self, bucket: Bucket, folder: Path):
        self.bucket, self.folder = bucket, folder
        self.copied: dict[str, tuple[int, int]] = {}  # by key: size and time of what was copied
        self.listed: list[str] = []

    def bring(self) -> int:
        """Fill the folder with what the bucket has; how many files that were."""
        # Asked for by listing: a role that may list only its prefix is denied, not told, that a key does not exist.
        self.listed = json.loads(self.bucket.read(INDEX)) if INDEX in self.bucket.names() else []
        for key in self.listed:
            path = self.folder / key
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise OSError(f"{self.bucket}/{INDEX} lists {key!r}, which is not in {self.folder}")
            self.bucket.fetch(f"{RESULTS}/{key}", path)
        there = self._there()
        self.copied = {key: there[key] for key in self.listed if key in there}  # what else lies here is still to be sent
        return len(self.listed)

    def send(self) -> None:
        """Bring the bucket up to date. Raises `OSError` where it cannot be reached."""
        for _ in range(PASSES):
            there = self._there()
            if all(self._copy(key, there[key]) for key in there if key != MANIFEST):
                break
        else:
            return  # the folder never stood still; what the bucket has stays valid
        if MANIFEST in there:
            self._list(key for key in there if key != MANIFEST or key in self.listed)
            self._copy(MANIFEST, there[MANIFEST])
        self._list(there)
        for key in self.copied.keys() - there.keys():
            self.bucket.delete(f"{RESULTS}/{key}")
            del self.copied[key]

    def _list(self, keys: Iterable[str]) -> None:
        """Say in the bucket what belongs together, where that has changed."""
        if (listed := sorted(keys)) != self.listed:
            self.bucket.write(INDEX, json.dumps(listed).encode())
            self.listed = listed

    def _copy(self, key: str, seen: tuple[int, int]) -> bool:
        """Copy a file unless that was done; False where it is gone, and with it perhaps others that belong to it."""
        if self.copied.get(key) != seen:
            try:
                self.bucket.send(f"{RESULTS}/{key}", self.folder / key)
            except FileNotFoundError:
                return False
            self.copied[key] = seen
        return True

    def _there(self) -> dict[str, tuple[int, int]]:
        """Size and time of every file, but for those that are being written or say who writes."""
        found = {}
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(("_tmp", "_lock"))]
            for name in names:
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    if not name.startswith("_"):
                        found[path.relative_to(self.folder).as_posix()] = (path.stat().st_size, path.stat().st_mtime_ns)
        return found
