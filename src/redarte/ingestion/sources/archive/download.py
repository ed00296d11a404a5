"""Downloads a file from an http(s) address, and resumes an interrupted download."""

import hashlib
import os
import re
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

import requests
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from redarte.runtime import paths
from redarte.runtime.errors import UserError, first_line, printable

_TIMEOUT = 30  # seconds to connect, and between two chunks
_CHUNK = 1 << 16  # bytes; an interrupted chunk is lost
_MAX_REDIRECTS = 20
_QUERY = "REDARTE_ARCHIVE_QUERY"  # a query for the address that is in no file, because it may have a token
_MAX_NAME = 80  # characters of the address's file name that are kept


class TooLargeError(UserError):
    """The server sends more than params.yaml allows."""


def download(address: str, max_gigabytes: float) -> Path:
    """Downloads a file into data/.downloads, or returns the complete file that is there already.

    After an interruption the received part stays, with the server's identifier of that version of the file (ETag or
    date); the next call requests the rest of the same version. A complete file stays until `forget`.

    Args:
        address: http(s). The environment variable REDARTE_ARCHIVE_QUERY adds a query to it, ~/.netrc a user name and a
            password.
    """
    paths.DOWNLOADS.mkdir(parents=True, exist_ok=True)
    target = _target(address)
    part, version = _part(target), _version(target)
    if target.exists():
        target.replace(part)
    query = os.environ.get(_QUERY, "").lstrip("?")
    try:
        _receive(f"{address}?{query}" if query else address, part, version, max_gigabytes)
    except TooLargeError:
        part.unlink(missing_ok=True)
        version.unlink(missing_ok=True)
        raise
    except (requests.exceptions.InvalidURL, UnicodeError, ValueError) as error:
        raise UserError(
            f"fetch.archive.path is {address}, which is not an address ({first_line(error)}); correct it."
        ) from None
    except (requests.RequestException, HTTPError) as error:
        again = "check the address and the network and run it again: the download resumes"
        if isinstance(error, requests.exceptions.SSLError):
            again = (
                "check the address and the date of this machine; where a proxy or server of your own signs the "
                "certificate, name the file of its authority in the environment variable REQUESTS_CA_BUNDLE"
            )
        raise UserError(f"{address} cannot be downloaded ({_reason(error)}); {again}.") from None
    part.replace(target)
    return target


def forget(file: Path) -> None:
    """Deletes a downloaded file."""
    file.unlink(missing_ok=True)
    _version(file).unlink(missing_ok=True)


def _target(address: str) -> Path:
    try:
        name = PurePosixPath(unquote(urlsplit(address).path)).name
    except ValueError as error:
        raise UserError(f"fetch.archive.path is {address}, which is not an address ({error}); correct it.") from None
    key = hashlib.sha256(address.encode(errors="replace")).hexdigest()[:12]
    return paths.DOWNLOADS / f"{key}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)[-_MAX_NAME:] or 'file'}"


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _version(target: Path) -> Path:
    return target.with_name(target.name + ".version")


def _receive(address: str, part: Path, version: Path, max_gigabytes: float) -> None:
    have = part.stat().st_size if part.exists() and version.exists() else 0
    known = version.read_text(encoding="utf-8") if have else ""
    # Otherwise a server may compress the content, and byte ranges would not match.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with requests.Session() as session, _get(session, address, headers) as response:
        if response.status_code == 416 and have:
            if response.headers.get("Content-Range", "").endswith(f"/{have}"):
                return  # nothing is missing
            part.unlink()  # the received part is longer than the file: the file has changed
            return _receive(address, part, version, max_gigabytes)
        response.raise_for_status()
        announced = _announced(response)
        name = _version_of(response)
        if response.status_code != 206:
            if have and name == known and announced == have:
                return  # nothing is missing, from a server without ranges
            have = 0
        if name:
            version.write_text(name, encoding="utf-8")
        else:
            version.unlink(missing_ok=True)
        total = None if announced is None else have + announced
        _save(response, part, have, total, max_gigabytes)
    if total is not None and part.stat().st_size != total:
        raise requests.ConnectionError("the connection was closed early")


def _get(session: requests.Session, address: str, headers: dict[str, str]) -> requests.Response:
    """The response to a request; redirects are followed, but never from https to http, nor to anything else."""
    for _ in range(_MAX_REDIRECTS):
        response = session.get(address, headers=headers, stream=True, timeout=_TIMEOUT, allow_redirects=False)
        location = session.get_redirect_target(response)
        if location is None:
            return response
        response.close()
        target = urljoin(address, location)
        before, after = urlsplit(address).scheme.lower(), urlsplit(target).scheme.lower()
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            raise UserError(
                f"{address} redirects to {printable(target)}, which is not encrypted: ask its publisher for another "
                "address, or download the file in a browser and set fetch.archive.path to it."
            )
        address = target
    raise UserError(f"{address} redirects more than {_MAX_REDIRECTS} times: open it in a browser to see why.")


def _announced(response: requests.Response) -> int | None:
    """The number of bytes that a server announces; None where it announces none, or several numbers."""
    # A repeated header is joined with a comma.
    numbers = {number.strip() for number in response.headers.get("Content-Length", "").split(",")}
    number = numbers.pop()
    return int(number) if not numbers and number.isascii() and number.isdecimal() else None


def _version_of(response: requests.Response) -> str:
    """A server's identifier of a version of the file; "" where there is none."""
    name = response.headers.get("ETag", "")
    if not name or name.startswith("W/"):  # a weak ETag does not guarantee equal bytes
        name = response.headers.get("Last-Modified", "")
    return name


def _save(response: requests.Response, part: Path, have: int, total: int | None, max_gigabytes: float) -> None:
    _check_size(total or 0, max_gigabytes)
    bar = tqdm(
        desc="downloading",
        initial=have,
        total=total,
        unit="B",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
    )
    with bar, part.open("ab" if have else "wb") as file:
        # Undecoded: requests would decompress gzip, and count other bytes than the server.
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            have += len(chunk)
            _check_size(have, max_gigabytes)
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _check_size(size: int, max_gigabytes: float) -> None:
    if size > max_gigabytes * 1e9:
        raise TooLargeError(
            f"the download is larger than fetch.archive.max_gigabytes ({max_gigabytes:g}) and is refused; raise the "
            "limit if you trust the server."
        )


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {printable(error.response.reason)}"
    if isinstance(error, requests.exceptions.SSLError):
        # OpenSSL's own words, from the middle of a long message.
        known = re.search(r"\[SSL[^]]*\] (.+?) \(_ssl", str(error))
        return f"TLS: {known[1] if known else first_line(error)}"
    if isinstance(error, requests.Timeout):
        return f"no response for {_TIMEOUT} s"
    if isinstance(error, requests.ConnectionError | HTTPError):
        return "the connection failed or was closed early"
    return first_line(error)
