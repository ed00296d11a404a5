"""A file from an http(s) address. What has arrived is kept when the connection breaks; the next call goes on there."""

import hashlib
import os
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import requests
from tqdm import tqdm

from redarte.runtime.errors import UserError, first_line

DOWNLOADS = Path("data/.downloads")
_TIMEOUT = 30  # seconds to connect, and between two pieces
_PIECE = 1 << 16  # when the connection breaks, the piece under way is lost


def download(address: str) -> Path:
    """Downloads a file into data/.downloads.

    What has arrived stays there when the connection breaks, beside the server's name for that version of
    the file (its ETag or date); the next call asks for the rest of the same version.

    Returns:
        The whole file.

    Raises:
        UserError: no network, an answer other than the file, or fewer bytes than the server announced.
    """
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(address.encode()).hexdigest()[:12]
    target = DOWNLOADS / f"{key}-{PurePosixPath(unquote(urlsplit(address).path)).name or 'file'}"
    part, version = target.with_name(target.name + ".part"), target.with_name(target.name + ".version")
    try:
        _receive(address, part, version)
    except requests.RequestException as error:
        raise UserError(
            f"{address} cannot be downloaded ({_reason(error)}); check the address and the network and run it "
            "again: it goes on where it broke off."
        ) from None
    part.replace(target)
    version.unlink(missing_ok=True)
    return target


def _receive(address: str, part: Path, version: Path) -> None:
    have = part.stat().st_size if part.exists() and version.exists() else 0
    # Without identity a server may compress on the way, and byte positions would mean nothing.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version.read_text(encoding="utf-8")}
    with requests.get(address, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == 416:  # what is here is longer than the file: it is another file now
            part.unlink()
            return _receive(address, part, version)
        answer.raise_for_status()
        if answer.status_code != 206:
            have = 0
        name = answer.headers.get("ETag", "")
        if not name or name.startswith("W/"):  # a weak ETag does not promise the same bytes
            name = answer.headers.get("Last-Modified", "")
        if name:
            version.write_text(name, encoding="utf-8")
        else:
            version.unlink(missing_ok=True)
        announced = answer.headers.get("Content-Length")
        total = have + int(announced) if announced else None
        _save(answer, part, have, total)
    if total is not None and part.stat().st_size != total:
        raise requests.ConnectionError("the connection was closed early")


def _save(answer: requests.Response, part: Path, have: int, total: int | None) -> None:
    bar = tqdm(
        desc="downloading",
        initial=have,
        total=total,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
    )
    with bar, part.open("ab" if have else "wb") as file:
        for piece in answer.iter_content(_PIECE):
            file.write(piece)
            bar.update(len(piece))
        file.flush()
        os.fsync(file.fileno())


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer for {_TIMEOUT} s"
    if isinstance(error, requests.exceptions.SSLError):
        return (
            "this machine does not trust its certificate; where a proxy or server of your own signs it, name the file "
            "of its authority in the environment variable REQUESTS_CA_BUNDLE"
        )
    if isinstance(error, requests.ConnectionError):
        return "the connection failed or was closed early"
    return first_line(error)
