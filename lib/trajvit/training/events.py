"""TensorBoard's event files beside a training, on a disk or in a bucket."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.utils.tensorboard import SummaryWriter

from trajvit.datasets.folders import Disk, Folder

PLACE = "tensorboard"


@contextmanager
def events_in(folder: Folder, first: int) -> Iterator[SummaryWriter]:
    """A writer of what happens from step `first` on; later steps of an earlier try count no more.

    On a disk it writes where the files stay; for a bucket, into a temporary folder that `keep_events` copies.
    """
    with ExitStack() as stack:
        on_disk = isinstance(folder, Disk)
        local = folder.place / PLACE if on_disk else Path(stack.enter_context(TemporaryDirectory(prefix="trajvit-")))
        with folder.naming(PLACE, "written"):
            writer = SummaryWriter(local, purge_step=first)
        try:
            yield writer
        except BaseException:
            with suppress(OSError):  # must not hide the error that is on its way
                keep_events(writer, folder)
                writer.close()
            raise
        keep_events(writer, folder)
        with folder.naming(PLACE, "written"):
            writer.close()


def keep_events(writer: SummaryWriter, folder: Folder) -> None:
    """Bring what was written to its place."""
    with folder.naming(PLACE, "written"):
        writer.flush()
    if not isinstance(folder, Disk):
        for path in Path(writer.log_dir).iterdir():
            folder.write(f"{PLACE}/{path.name}", path.read_bytes())
