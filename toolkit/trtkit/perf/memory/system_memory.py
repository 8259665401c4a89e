# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""Files in /dev/shm, named after the process that made them, so that those of dead processes can be removed."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from trtkit.errors import ProjectError

FOLDER = Path("/dev/shm")  # where shm_open of the C library keeps its objects
_NAME = re.compile(r"trtkit_(\d+)_(\d+)")


class SystemMemory:
    """A new file in /dev/shm, mapped and with all its bytes reserved.

    Its name carries the process's id, and a lock is held on it as long as the process lives: a process in another
    container may have the same id, and seen from there ours is dead.

    Args:
        byte_size: above 0.

    Raises:
        ProjectError: /dev/shm has no room, or is missing.
    """

    def __init__(self, byte_size: int) -> None:
        self.byte_size = byte_size
        self.name = ""
        self._linked = False
        self._mapping: mmap.mmap | None = None
        self._descriptor = -1
        try:
            self.name, self._descriptor = _create()
            self._linked = True
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # without it the first write beyond what /dev/shm can hold would end the process with a SIGBUS
            os.posix_fallocate(self._descriptor, 0, byte_size)
            self._mapping = mmap.mmap(self._descriptor, byte_size)
        except OSError as exc:
            self.release()
            raise ProjectError(_refusal(exc, byte_size)) from exc
        except BaseException:
            self.release()
            raise

    def registration(self) -> dict[str, Any]:
        """The fields of its registration at the server."""
        return {"key": f"/{self.name}", "offset": 0, "byte_size": self.byte_size}

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes into it."""
        assert self._mapping is not None
        self._mapping[offset : offset + len(data)] = data

    def read(self, offset: int, byte_size: int) -> bytes:
        """Take bytes out of it."""
        assert self._mapping is not None
        return self._mapping[offset : offset + byte_size]

    def unlink(self) -> None:
        """Remove the file; the mappings of both sides stay until they are given back."""
        if self._linked:
            with suppress(FileNotFoundError):
                (FOLDER / self.name).unlink()
            self._linked = False

    def release(self) -> None:
        """Remove the file and give the memory back; does nothing the second time."""
        self.unlink()
        if self._mapping is not None:
            self._mapping.close()
            self._mapping = None
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def unique_name() -> str:
    """A region's name that no other client of the server has, in whatever container it runs."""
    return f"trtkit_{os.getpid()}_{secrets.randbits(48)}"


def _create() -> tuple[str, int]:
    """A new file for this user only."""
    name = unique_name()
    return name, os.open(FOLDER / name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _refusal(exc: OSError, byte_size: int) -> str:
    needed = f"shared memory of {_mebibytes(byte_size)} is needed"
    if exc.errno in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
        free = shutil.disk_usage(FOLDER).free
        return (
            f"{needed}, and /dev/shm has {_mebibytes(free)} free; use fewer distinct requests or a lower concurrency, "
            "or enlarge /dev/shm (docker run --shm-size)"
        )
    return f"{needed}, and /dev/shm does not give it ({exc.strerror}); leave out --shared-memory"


def _mebibytes(byte_size: int) -> str:
    return f"{byte_size / 2**20:,.1f} MiB"


def sweep() -> list[str]:
    """Remove the files of processes that were killed.

    Returns:
        The names of the removed ones; a server may still hold regions of these names.
    """
    removed = []
    for file in sorted(FOLDER.glob("trtkit_*_*")):
        found = _NAME.fullmatch(file.name)
        if found and not Path(f"/proc/{found[1]}").exists() and _remove_unlocked(file):
            removed.append(file.name)
    return removed


def _remove_unlocked(file: Path) -> bool:
    """Remove a file unless some process still holds its lock, or it is not ours."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
