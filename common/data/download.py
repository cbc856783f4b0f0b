"""Downloads that are either complete and verified or absent, and the unpacking of archives."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from rich import progress
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError
from urllib3.util import Retry

from common.data.progress import console, reading
from common.errors import DataError, UserError
from common.files import replacing

_MAGIC = {".gz": b"\x1f\x8b", ".zip": b"PK"}
_TRANSIENT = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Retrying:
    """How long a download keeps trying.

    Attributes:
        retries: Retries in a row that bring nothing new before the download is given up.
        backoff: Seconds before the second retry; each further one waits twice as long.
        connect: Seconds to wait for a connection.
        stall: Seconds to wait for the next bytes.
    """

    retries: int = 5
    backoff: float = 1.0
    connect: float = 15.0
    stall: float = 60.0


def fetch(
    url: str,
    target: Path,
    *,
    lock: Path,
    md5: str | None = None,
    size: int | None = None,
    retrying: Retrying | None = None,
) -> Path:
    """``target``, downloaded if it is not there yet, and verified either way.

    Bytes are collected in ``<target>.part``, which a later call resumes if the server still has the same file, and
    which takes the target's name once verified. Without a published checksum, the SHA-256 of the first complete file
    is recorded in ``lock``, and later ones must match it.

    Args:
        url: Address of the file.
        target: Path of the complete file.
        lock: JSON file of recorded checksums, by address.
        md5: Checksum that the publisher gives, if any.
        size: Number of bytes that the publisher gives, if any.
        retrying: Retries and timeouts.

    Raises:
        UserError: If the file cannot be fetched or saved; the message says which file to put where by hand.
        DataError: If the file differs from the published or recorded checksum.
    """
    by_hand = f"Fetch {url} by other means and save it as {target}."
    with _one_at_a_time(target.parent):
        if target.is_file():
            _verify(target, url, lock, md5, size, f"Delete {target} and run the command again, or: {by_hand}")
            return target
        part = target.with_name(f"{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _Download(url, part, retrying or Retrying(), by_hand, trusted=md5 is not None).run()
            try:
                _verify(part, url, lock, md5, size, by_hand)
            except DataError:
                part.unlink()
                raise
            part.replace(target)
        except OSError as error:
            # Errors of requests are OSErrors too, but the download handles all of them.
            cure = "Free some space" if error.errno == errno.ENOSPC else "Choose a folder that you may write to"
            what = f"Cannot save {target}: {error.strerror or error}."
            raise UserError(what, f"{cure}, and run it again.") from error
    return target


def extract(archive: Path, folder: Path) -> Path:
    """Unpacks a zip archive into ``folder``, whole or not at all, and returns it.

    A folder that exists already is left as it is, unless the archive has been fetched again since.

    Raises:
        DataError: If the archive is damaged, or holds a link or a path that leads out of the folder.
        UserError: If there is too little space.
    """
    with _one_at_a_time(folder.parent):
        return _extract(archive, folder)


def _extract(archive: Path, folder: Path) -> Path:
    there = folder.is_dir()
    if there and not (archive.is_file() and archive.stat().st_mtime_ns > folder.stat().st_mtime_ns):
        return folder
    cure = f"Delete {archive} and fetch it again."
    try:
        with zipfile.ZipFile(archive) as unpacked:
            members = unpacked.infolist()
            for member in members:
                outside = not (folder / member.filename).resolve().is_relative_to(folder.resolve())
                if outside or stat.S_ISLNK(member.external_attr >> 16):
                    expected = "files inside the archive's own folder"
                    raise DataError(f"{archive}: expected {expected}, found {member.filename!r}.", cure)
            folder.parent.mkdir(parents=True, exist_ok=True)
            need, free = sum(member.file_size for member in members), shutil.disk_usage(folder.parent).free
            if need > free:
                raise UserError(f"{archive} unpacks to {need:,} bytes, but only {free:,} are free.", "Free some space.")
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
                inside = Path(scratch, folder.name)
                for member in progress.track(members, f"Unpacking {archive.name}", console=console, transient=True):
                    unpacked.extract(member, inside)
                if there:
                    shutil.rmtree(folder)
                inside.rename(folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{archive}: expected a whole zip archive, found damage ({error}).", cure) from error
    return folder


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Lets other processes that fetch or unpack files in a folder wait, where its file system has locks.

    Two that wrote one file would mix their bytes, and where no checksum is published, record that of the mixture.
    """
    with ExitStack() as held:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
            held.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                console.print(f"Waiting for another process that fetches data to {folder}", markup=False)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _verify(path: Path, url: str, lock: Path, md5: str | None, size: int | None, cure: str) -> None:
    """Raises unless the file is the one published or, where nothing is published, the one recorded first."""
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        raise DataError(f"{url}: expected {size:,} bytes, found {found_size:,}.", cure)
    with path.open("rb") as stream:
        start = stream.read(2)
    magic = _MAGIC.get(Path(urlsplit(url).path).suffix, b"")
    # Without a checksum, the log-in page of a hotel network would be recorded as the data set.
    if not start.startswith(magic) or found_size == 0:
        raise DataError(f"{url}: expected an archive that starts with {magic!r}, found {start!r}.", cure)
    if md5 is not None:
        found = _digest(path, "md5")
        if found != md5:
            raise DataError(f"{url}: expected a file of MD5 {md5}, found {found}.", cure)
        return
    found = _digest(path, "sha256")
    # Whoever fetches into another folder records there as well; into this one, :func:`fetch` lets nobody else.
    same = path.parent.resolve() == lock.parent.resolve()
    with nullcontext() if same else _one_at_a_time(lock.parent):
        recorded = _recorded(lock)
        if url not in recorded:
            _record(lock, recorded | {url: {"sha256": found, "size": found_size}})
            return
    if recorded[url].get("sha256") != found:
        expected = f"the SHA-256 {recorded[url].get('sha256')} recorded in {lock}"
        changed = f"If the publisher has replaced the file, delete its entry from {lock}. Otherwise: {cure}"
        raise DataError(f"{url}: expected a file of {expected}, found {found}.", changed)


def _digest(path: Path, algorithm: str) -> str:
    with reading(path, "Verifying") as stream:
        new = partial(hashlib.new, algorithm, usedforsecurity=False)
        return hashlib.file_digest(stream, new).hexdigest()  # type: ignore[arg-type]  # BinaryIO declares no readinto


def _recorded(lock: Path) -> dict[str, dict[str, str | int]]:
    if not lock.is_file():
        return {}
    try:
        return dict(json.loads(lock.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{lock}: expected JSON, found something else ({error}).", f"Fix or delete {lock}.") from error


def _record(lock: Path, entries: dict[str, dict[str, str | int]]) -> None:
    with replacing(lock) as part:
        part.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", "utf-8")


class _Download:
    """A download into ``part``; ``<part>.version`` holds the server's identifier of the file's version."""

    def __init__(self, url: str, part: Path, retrying: Retrying, by_hand: str, trusted: bool) -> None:
        self.url, self.part, self.retrying, self.by_hand, self.trusted = url, part, retrying, by_hand, trusted
        self.version_path = part.with_name(f"{part.name}.version")
        self.session = requests.Session()
        self.retry = Retry(
            total=retrying.retries,
            backoff_factor=retrying.backoff,
            backoff_jitter=retrying.backoff / 4,
            status_forcelist=_TRANSIENT,
            raise_on_status=False,
        )
        self.session.mount("http://", HTTPAdapter(max_retries=self.retry))
        self.session.mount("https://", HTTPAdapter(max_retries=self.retry))

    def run(self) -> None:
        """Continues until the file is complete, or ``retries`` attempts in a row have brought nothing new."""
        retry, furthest = self.retry, self._have()
        with self.session:
            while True:
                try:
                    if self._attempt():
                        self.version_path.unlink(missing_ok=True)
                        return
                    problem = "the connection closed early"
                except (requests.RequestException, HTTPError) as error:
                    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
                        raise UserError(f"{self.url!r} is not a valid address: {error}.", self.by_hand) from error
                    # The adapter has already retried connections that could not be established.
                    if isinstance(error.args[0] if error.args else None, MaxRetryError):
                        raise self._unreachable(error) from error
                    problem = str(error)
                if self._have() > furthest:
                    retry, furthest = self.retry, self._have()
                try:
                    retry = retry.increment("GET", self.url, error=ProtocolError(problem))
                except MaxRetryError as error:
                    raise self._unreachable(error) from error
                retry.sleep()

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _unreachable(self, error: Exception) -> UserError:
        host = urlsplit(self.url).netloc
        return UserError(f"Cannot fetch {self.url} from {host}: {error}.", f"Check the network. {self.by_hand}")

    def _attempt(self) -> bool:
        """Requests the missing bytes, saves them, and returns whether the file is complete."""
        have = self._have()
        version = self.version_path.read_text("utf-8") if have and self.version_path.exists() else ""
        headers = {"Accept-Encoding": "identity"}
        if have and (version or self.trusted):
            # Bytes of two versions must not be mixed; if a checksum would detect that, the version may be unknown.
            headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
        timeout = (self.retrying.connect, self.retrying.stall)
        with self.session.get(self.url, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return True
                self.part.unlink()
                return False
            if not response.ok:
                what = f"{urlsplit(self.url).netloc} answers {response.status_code} ({response.reason}) for {self.url}."
                raise UserError(what, self.by_hand)
            resumed = response.status_code == requests.codes.partial_content
            if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                self.part.unlink()
                return False
            return self._save(response, have if resumed else 0)

    def _save(self, response: requests.Response, start: int) -> bool:
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        tag = response.headers.get("ETag", "")
        # A weak tag does not guarantee identical bytes.
        version = response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        self.version_path.write_text(version, "utf-8")
        columns = (*progress.Progress.get_default_columns(), progress.DownloadColumn(), progress.TransferSpeedColumn())
        with self.part.open("ab" if start else "wb") as stream, progress.Progress(*columns, console=console) as bar:
            task = bar.add_task(f"Fetching {self.part.name.removesuffix('.part')}", total=total, completed=start)
            # Some servers label an archive with a content encoding; decoding it would unpack the archive.
            for block in response.raw.stream(1 << 16, decode_content=False):
                stream.write(block)
                bar.update(task, advance=len(block))
        return total is None or self._have() == total
