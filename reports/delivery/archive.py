"""The archive of reports: a folder or a bucket, with a folder for each run and an index of the runs.

The run folders of the incentives reconciliation are at the root, as they were before there were other reconciliations.
Those of any other reconciliation are in a folder named after it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

from reports.presentation.csv import render_csv
from reports.presentation.index import render_index, run_folder
from reports.presentation.page import render_report
from reports.reconciliations.registry import RECONCILIATIONS
from sync.errors import SyncError
from sync.settings.declaration import Settings
from sync.settings.loading import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from reports.engine.result import ReconciliationResult
    from reports.engine.runs import EndedRun

REPORT = "report.html"
CSV = "mismatches.csv"
JSON = "result.json"
INDEX = "index.html"
_TYPES = {".html": "text/html; charset=utf-8", ".csv": "text/csv; charset=utf-8", ".json": "application/json"}
#: Disk errors that may be temporary; any other error means that another folder is needed.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT})
#: Error codes of S3 and its client which mean that the bucket is wrong or must not be used.
_WRONG_BUCKET = frozenset(
    {
        "AccessDenied",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "NoCredentialsError",
        "ExpiredToken",
        "NoSuchBucket",
        "ParamValidationError",
        "PartialCredentialsError",
        "PermanentRedirect",
        "SignatureDoesNotMatch",
    }
)
#: The HTTP statuses which mean that a server refuses the bucket, whatever the error code.
_REFUSALS = frozenset({301, 401, 403, 404, 405, 501})
#: The object that is written and deleted to check that a bucket can be written to.
_PROBE = ".probe"
_FOLDER = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")


class ArchiveUnavailable(SyncError):
    """The folder or the bucket cannot be read or written to, or an address in the bucket cannot be signed.

    Trying again may help.
    """

    recoverable = True


class Archive(Protocol):
    """A place for the files of runs: a folder or a bucket."""

    def write(self, name: str, content: str, *, private: bool = False) -> None:
        """Writes a file, whole or not at all. Raises `ArchiveUnavailable`.

        name: the path of the file, relative to the root of the archive. private: whether only the owner may read the
        file; if not, the umask decides. For a bucket, `private` has no effect.
        """
        ...

    def report_folders(self) -> set[str]:
        """The paths, relative to the root, of the folders that hold reports. Raises `ArchiveUnavailable`."""
        ...

    def location(self, name: str) -> str:
        """The place of a file, as shown to people."""
        ...

    def probe(self) -> str | None:
        """Writes and removes a test file. Returns a problem that does not prevent reports from being kept, or None.

        Raises `SettingsError` if `REPORTS_LOCATION` must be changed, or `ArchiveUnavailable` if the error may be
        temporary.
        """
        ...


def open_archive(settings: Settings, make_s3: Callable[[], Any]) -> Archive:
    """The archive at `REPORTS_LOCATION`. `make_s3` makes an S3 client and is called only for a bucket."""
    location = settings.reports_location
    if not location.startswith("s3://"):
        return Folder(Path(location))
    parts = urlsplit(location)
    return Bucket(make_s3(), parts.netloc, parts.path.strip("/"))


def store_report(archive: Archive, result: ReconciliationResult) -> str:
    """Writes the three files of the run with this `result`, and returns the place of the report.

    Raises `ArchiveUnavailable`, or `ValueError` if the run id or the name of the reconciliation cannot name a folder.
    """
    for name in (result.run_id, result.reconciliation):
        if not _FOLDER.match(name):
            raise ValueError(f"{name!r} cannot be the name of a folder")
    place = run_folder(result.reconciliation, result.run_id)
    archive.write(f"{place}/{JSON}", result.to_json(indent=1))
    archive.write(f"{place}/{CSV}", render_csv(result))
    archive.write(f"{place}/{REPORT}", render_report(result))
    return archive.location(f"{place}/{REPORT}")


def store_index(
    archive: Archive,
    runs: Iterable[EndedRun],
    newest: Mapping[str, ReconciliationResult],
    environment_name: str,
    made_at: datetime,
) -> None:
    """Writes the index of those `runs` that have a report in the archive. Raises `ArchiveUnavailable`.

    runs: all runs that have ended, newest first. newest: the result of each reconciliation's newest run for everyone,
    by run id. made_at: the current time, aware.
    """
    kept = archive.report_folders()
    indexed: Sequence[EndedRun] = [run for run in runs if run_folder(run.reconciliation, run.run_id) in kept]
    titles = {each.name: each.title for each in RECONCILIATIONS.values()}
    archive.write(INDEX, render_index(titles, indexed, newest, environment_name, made_at))


def report_link(settings: Settings, result: ReconciliationResult, make_s3: Callable[[], Any]) -> str | None:
    """The address at which people open the report of a run, or None if they are sent the page itself.

    The address is below `REPORTS_URL` if that is set. Otherwise, if `REPORTS_LINK_HOURS` is set and the archive is a
    bucket, it is a presigned address in the bucket. Anyone with a presigned address can read the page, which is not
    masked, so no address is signed if messages are masked. Raises `ArchiveUnavailable` if signing fails.
    """
    place = f"{run_folder(result.reconciliation, result.run_id)}/{REPORT}"
    if settings.reports_url:
        return f"{settings.reports_url.rstrip('/')}/{place}"
    if not settings.reports_link_hours or settings.alerts_mask_prisoners:
        return None
    archive = open_archive(settings, make_s3)
    if not isinstance(archive, Bucket):
        return None
    return archive.presigned(place, timedelta(hours=settings.reports_link_hours))


def report_path(settings: Settings, result: ReconciliationResult) -> str:
    """The place of the report of a run, as shown to people.

    This is its address below `REPORTS_URL` if that is set, or else its path or its `s3://` address in the archive.
    """
    if settings.reports_url:
        return f"{settings.reports_url.rstrip('/')}/{run_folder(result.reconciliation, result.run_id)}/{REPORT}"
    location = settings.reports_location
    root = location.rstrip("/") if location.startswith("s3://") else str(Path(location).resolve())
    return f"{root}/{run_folder(result.reconciliation, result.run_id)}/{REPORT}"


class Folder:
    """An archive in a folder, which is created if it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, content: str, *, private: bool = False) -> None:
        """Writes a temporary file and renames it, so that a reader never sees half a file."""
        target = self._root / name
        temporary = target.parent / f".{target.name}.{uuid4().hex}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise ArchiveUnavailable(f"{target} cannot be written: {error.strerror}") from error

    def report_folders(self) -> set[str]:
        """The folders that hold reports. Each is at the root or in the folder of a reconciliation."""
        found = (report for depth in ("*", "*/*") for report in self._root.glob(f"{depth}/{REPORT}"))
        try:
            return {report.parent.relative_to(self._root).as_posix() for report in found}
        except OSError as error:
            raise ArchiveUnavailable(f"{self._root} cannot be read: {error.strerror}") from error

    def location(self, name: str) -> str:
        """The absolute path of a file."""
        return str((self._root / name).resolve())

    def probe(self) -> str | None:
        """Creates the folder if it is missing, and a file in it. Then removes what it created."""
        missing = [folder for folder in (self._root, *self._root.parents) if not folder.exists()]
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._root, prefix=".probe."):
                pass
        except OSError as error:
            if error.errno in _PASSING:
                raise ArchiveUnavailable(f"{self._root} cannot be written to: {error.strerror}") from error
            raise SettingsError(
                f"REPORTS_LOCATION: the folder {self._root.resolve()} cannot be created or written to: "
                f"{error.strerror}; give a folder that can be written to, or s3://bucket/prefix"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                for folder in missing:
                    folder.rmdir()
        return None


class Bucket:
    """An archive in an S3 bucket, under a prefix. listed_at_once: the number of objects on a page of a listing."""

    def __init__(self, client: Any, bucket: str, prefix: str, listed_at_once: int = 1_000) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._listed_at_once = listed_at_once

    def write(self, name: str, content: str, *, private: bool = False) -> None:  # noqa: ARG002 - the bucket decides
        """Puts an object, which S3 stores whole or not at all."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                Body=content.encode(),
                ContentType=_TYPES[Path(name).suffix],
                CacheControl="no-cache",
            )
        except (BotoCoreError, ClientError) as error:
            raise ArchiveUnavailable(f"{self.location(name)} cannot be written: {_reason(error)}") from error

    def report_folders(self) -> set[str]:
        """The folders under the prefix that hold reports."""
        from botocore.exceptions import BotoCoreError, ClientError

        found: set[str] = set()
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix, PaginationConfig={"PageSize": self._listed_at_once}
            )
            for page in pages:
                for each in page.get("Contents", ()):
                    place, _, name = each["Key"].removeprefix(self._prefix).rpartition("/")
                    if name == REPORT:
                        found.add(place)
        except (BotoCoreError, ClientError) as error:
            raise ArchiveUnavailable(f"{self.location('')} cannot be listed: {_reason(error)}") from error
        return found

    def presigned(self, name: str, lifetime: timedelta) -> str:
        """An address at which anybody can read the object `name` for `lifetime`.

        The address stops working earlier if this process's credentials expire earlier. Raises `ArchiveUnavailable` if
        signing fails, for example because there are no credentials.
        """
        from botocore.exceptions import BotoCoreError

        wanted = {"Bucket": self._bucket, "Key": self._prefix + name}
        try:
            address = self._client.generate_presigned_url(
                "get_object", Params=wanted, ExpiresIn=round(lifetime.total_seconds())
            )
        except BotoCoreError as error:
            raise ArchiveUnavailable(f"{self.location(name)} cannot be signed: {_reason(error)}") from error
        return str(address)

    def location(self, name: str) -> str:
        """The `s3://` address of an object."""
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def probe(self) -> str | None:
        """Lists the bucket, as `report_folders` does, and then writes and deletes an object."""
        from botocore.exceptions import BotoCoreError, ClientError

        call = "ListObjectsV2"
        try:
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
            call = "PutObject"
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + _PROBE, Body=b"")
        except (BotoCoreError, ClientError) as error:
            reason = _reason(error)
            if reason in _WRONG_BUCKET or _status(error) in _REFUSALS:
                raise SettingsError(
                    f"REPORTS_LOCATION: {self.location('')} cannot be used: {reason} ({call}); "
                    "give a bucket that exists and can be listed and written to, or a folder"
                ) from error
            verb = "written to" if call == "PutObject" else "listed"
            raise ArchiveUnavailable(f"{self.location('')} cannot be {verb}: {reason}") from error
        try:
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + _PROBE)
        except (BotoCoreError, ClientError) as error:
            # Reports are never deleted, so the right to delete is not needed.
            return f"{self.location(_PROBE)} could not be deleted: {_reason(error)} (DeleteObject)"
        return None


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    return status if isinstance(status, int) else None


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", type(error).__name__))
    return type(error).__name__
