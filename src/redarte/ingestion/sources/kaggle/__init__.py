"""The source kaggle: a data set of kaggle.com, by kagglehub, which caches downloads and resumes interrupted ones."""

import logging
import zipfile
from pathlib import Path

import requests

from redarte.params import Fetch
from redarte.runtime.errors import UserError


def fetch_files(settings: Fetch, _scratch: Path) -> Path:
    """Returns the pinned version of the data set, from kagglehub's cache or from the network."""
    handle = f"{settings.kaggle.dataset}/versions/{settings.kaggle.version}"
    logging.getLogger("kagglehub").setLevel(logging.ERROR)
    import kagglehub
    from kagglehub.exceptions import KaggleApiHTTPError

    try:
        return Path(kagglehub.dataset_download(handle))
    except KaggleApiHTTPError as error:
        code = error.response.status_code if error.response is not None else "no response"
        raise UserError(f"Kaggle refused {handle} ({code}): {_by_hand(settings)}") from None
    except (requests.RequestException, OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{handle} cannot be downloaded ({type(error).__name__}): {_by_hand(settings)}") from None


def _by_hand(settings: Fetch) -> str:
    return (
        "check the network and the Kaggle credentials (KAGGLE_API_TOKEN), or download the zip by hand from "
        f"kaggle.com/datasets/{settings.kaggle.dataset} and set fetch.source to archive and fetch.archive.path "
        "to the file."
    )
