"""Files that are whole or not there: written aside, flushed to the disk, renamed; tensors carry a digest.

A kill or a cut of power leaves the file that was there before or the new one, and of two that write at once the
second waits. What can be read of a file of tensors is what was written: whatever byte of it changes, the digest of
its content no longer fits.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uncollapse.errors import InputError, because
from uncollapse.signals import unfinished

DIGEST = "digest"
#: How often a file is looked for that nobody else writes, before it is written all the same.
_TRIES = 1000
#: What the safetensors format calls the types of tensors.
_TYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


@contextmanager
def replacing(path: Path, aside: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write in place of another one, which stays until the block has ended without an error.

    Arguments:
        path: The file.
        aside: Where it is until then, in the same folder; what a kill left there is lost.

    Raises:
        InputError: where it cannot be written.
    """
    aside = aside or path.with_suffix(".partial")
    try:
        with _alone(aside) as file, unfinished(aside):  # Until it has its name: a lock goes with the file's closing.
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                aside.replace(path)
            except BaseException:
                with suppress(OSError):
                    aside.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise unwritable(path, error) from error


def _alone(path: Path) -> BinaryIO:
    """A new file that no other process writes; one that does is waited for."""
    for _ in range(_TRIES):
        with suppress(FileExistsError):
            file = path.open("xb")  # Never through a link that somebody left there.
            if _taken(file.fileno(), path):
                return file
            file.close()
        _clear(path)
    return path.open("wb")


def _clear(path: Path) -> None:
    """Waits for who writes a file, and removes one that nobody does: a kill has left it."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    except OSError:  # A link, or what may not be read.
        return path.unlink(missing_ok=True)
    try:
        if _taken(number, path):
            path.unlink(missing_ok=True)
    finally:
        os.close(number)


def _taken(number: int, path: Path) -> bool:
    """Waits for the lock of an open file; whether it still has its name then."""
    with suppress(OSError):  # A filesystem that knows no locks: whoever writes last is read.
        fcntl.flock(number, fcntl.LOCK_EX)
    try:
        return os.path.samestat(path.lstat(), os.fstat(number))
    except FileNotFoundError:
        return False


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Refuses a folder in which a name that is written to leads elsewhere, as a stranger may have left it.

    Arguments:
        folder: The folder, which may be a link itself: whoever named it chose it.
        names: Of files and folders in it, whether they are there or not.

    Raises:
        InputError: where one is a link, a pipe or a device.
    """
    for path in (folder / name for name in names):
        if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
            raise InputError(
                f"`{path}` is a link, a pipe or a device, and what is written to it would leave `{folder}`: put what "
                "it leads to in its place, or remove it."
            )


def unwritable(path: Path, error: OSError) -> InputError:
    """What to say of a file that cannot be written."""
    return InputError(f"cannot write `{path}`: {because(error)}.")


def write_text(path: Path, text: str) -> None:
    """Writes a text in place of what was there."""
    content = text.encode()
    with replacing(path) as file:
        file.write(content)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Writes a safetensors file in place of what was there, a tensor at a time; they may share memory.

    Arguments:
        path: The file.
        tensors: By name, on any device.
        metadata: Texts beside them.

    Returns:
        The digest of all of it, which is in the file too.

    Raises:
        InputError: where it cannot be written, and for a type of tensor that the format has not.
    """
    # Wide types first, as the format wants its tensors aligned.
    parts = sorted(tensors.items(), key=lambda part: (-part[1].element_size(), part[0]))
    parts = {name: tensor.detach().cpu().contiguous() for name, tensor in parts}
    digest = _digest(parts, metadata)
    header = json.dumps(_header(parts, {**metadata, DIGEST: digest})).encode()
    header += b" " * (-len(header) % 8)
    with replacing(path) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for tensor in parts.values():
            file.write(_content(tensor))
    return digest


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file, its digest among them where it has one.

    Raises:
        InputError: where the file is missing, cut or changed.
    """
    if not path.is_file():
        raise InputError(f"there is no file `{path}`.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"`{path}` is damaged: {error}.") from error
    said = {name: text for name, text in metadata.items() if name != DIGEST}
    if DIGEST in metadata and metadata[DIGEST] != _digest(tensors, said):
        raise InputError(f"`{path}` is damaged: its content does not fit its digest.")
    return tensors, metadata


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, object]:
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _type(tensor), "shape": list(tensor.shape), "data_offsets": [begin, end]}
    return header


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The BLAKE2b of all that is read back: names, types, shapes, numbers and metadata."""
    digest = hashlib.blake2b(json.dumps(sorted(metadata.items())).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, _type(tensor), list(tensor.shape)]).encode())
        digest.update(_content(tensor))
    return digest.hexdigest()


def _type(tensor: Tensor) -> str:
    if tensor.dtype not in _TYPES:
        raise InputError(f"a tensor of type {tensor.dtype} cannot be stored: convert it, as with `.float()`.")
    return _TYPES[tensor.dtype]


def _content(tensor: Tensor) -> memoryview:
    # As bytes, because numpy lacks some of torch's types.
    return tensor.flatten().view(torch.uint8).numpy().data
