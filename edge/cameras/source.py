"""What a SOURCE string means: a file, a folder of pictures, a device, a URL, a GStreamer pipeline or a simulated
world."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

import cv2

from edge.cameras.camera import CameraError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
URL_SCHEMES = frozenset({"rtsp", "rtsps", "http", "https"})
NO_GSTREAMER = (
    "this OpenCV was built without GStreamer (no pip wheel has it), so it cannot open a pipeline: on a Jetson make the "
    "virtual environment with --system-site-packages and remove the opencv wheel from it, so that JetPack's is used"
)


class Kind(str, Enum):
    FILE = "file"
    FOLDER = "folder"
    DEVICE = "device"
    URL = "url"
    PIPELINE = "pipeline"
    WORLD = "world"


@dataclass(frozen=True, slots=True)
class Source:
    """kind: how to open it. target: what to open: an absolute path, a URL or a pipeline. label: for people, logs and
    fingerprints, without passwords."""

    kind: Kind
    target: str
    label: str

    @property
    def live(self) -> bool:
        """It has no end of its own and cannot be played faster than it happens."""
        return self.kind not in (Kind.FILE, Kind.FOLDER)


def parse_source(text: str) -> Source:
    """Understand a SOURCE string and check what can be checked without opening it. Raises CameraError."""
    text = text.strip()
    if not text:
        raise CameraError(
            "the camera source is empty: give a video file, a folder of pictures, /dev/video0, an rtsp:// or http:// "
            "address, a GStreamer pipeline or world:PATH"
        )
    if "\0" in text:
        raise CameraError(f"the camera source {text!r} has a null character in it: remove it")
    if text.startswith("world:"):
        path = Path(text.removeprefix("world:")).absolute()
        return Source(Kind.WORLD, str(path), f"world:{path}")
    if text.startswith("gst:") or " ! " in text:
        return _pipeline(text.removeprefix("gst:").strip())
    if len(text.splitlines()) > 1:
        raise CameraError(f"the camera source {text!r} has a line break in it: give one file, folder or address")
    if re.fullmatch(r"\d+", text):
        return _device(Path(f"/dev/video{int(text)}"))
    if re.fullmatch(r"/dev/(video\d+|v4l/.+)", text):
        return _device(Path(text))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return _url(text)
    return _path(Path(os.path.abspath(os.path.expanduser(text))))


def pictures_in(folder: Path) -> list[Path]:
    """The folder's pictures in the order a person would count them: 2 before 10."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    except OSError as error:
        raise CameraError(f"the folder {folder} cannot be read ({error.strerror}): check its permissions") from None
    pictures = [name for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES]
    return [folder / name for name in sorted(pictures, key=_natural)]


def opencv_has_gstreamer(build_information: str | None = None) -> bool:
    """By the build information: the registry lists GStreamer even where it is missing."""
    found = re.search(r"GStreamer:\s*(YES|NO)", build_information or cv2.getBuildInformation())
    return found is not None and found[1] == "YES"


def _pipeline(pipeline: str) -> Source:
    if not opencv_has_gstreamer():
        raise CameraError(NO_GSTREAMER)
    if "appsink" not in pipeline:
        raise CameraError(
            f"the pipeline {pipeline!r} has no appsink, so no picture would arrive: end it with "
            "'! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false'"
        )
    return Source(Kind.PIPELINE, pipeline, re.sub(r"://[^/@\s]+@", "://", pipeline))


def _device(path: Path) -> Source:
    if not path.exists():
        present = sorted((str(p) for p in Path("/dev").glob("video*")), key=_natural)
        there = f"there is {_few(present)}" if present else "there is no /dev/video* at all, so check cable and driver"
        raise CameraError(f"there is no camera at {path}: {there}")
    if not os.access(path, os.R_OK | os.W_OK):
        raise CameraError(f"{path} may not be opened by this user: run 'sudo usermod -aG video $USER' and log in again")
    return Source(Kind.DEVICE, str(path), str(path))


def _url(text: str) -> Source:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise CameraError(f"the camera address {_without_password(text)} is malformed ({error}): correct it") from None
    if parts.scheme.lower() == "file":
        return _path(Path(parts.path))
    if parts.scheme.lower() not in URL_SCHEMES:
        raise CameraError(f"a camera address begins with rtsp://, rtsps://, http:// or https://, not {parts.scheme}://")
    if not host:
        raise CameraError(
            f"the camera address {_without_password(text)} names no host: write {parts.scheme}://HOST/PATH"
        )
    at = host if port is None else f"{host}:{port}"
    return Source(Kind.URL, text, f"{parts.scheme}://{at}{parts.path}")


def _path(path: Path) -> Source:
    try:
        if path.is_dir():
            if not pictures_in(path):
                raise CameraError(f"the folder {path} holds no pictures (.jpg, .png, .bmp, .tif, ...): give another")
            return Source(Kind.FOLDER, str(path), str(path))
        if not path.exists():
            raise CameraError(f"there is no file {path}: {_what_is_there(path)}")
        if not path.is_file():
            raise CameraError(f"{path} is neither a file nor a folder of pictures: give one of these")
        with path.open("rb") as file:
            if not file.read(1):
                raise CameraError(f"{path} is empty: copy it again")
    except OSError as error:
        raise CameraError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    return Source(Kind.FILE, str(path), str(path))


def _what_is_there(path: Path) -> str:
    folder = next(parent for parent in path.parents if parent.is_dir())
    if folder != path.parent:
        return f"even the folder {path.parent} does not exist, only {folder} does"
    names = sorted((entry.name for entry in os.scandir(folder)), key=_natural)
    if not names:
        return f"the folder {folder} is empty"
    close = difflib.get_close_matches(path.name, names, n=3)
    return f"did you mean {_few(close)}?" if close else f"{folder} holds {_few(names)}"


def _few(names: list[str], at_most: int = 6) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers inside a name compare as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _without_password(url: str) -> str:
    return re.sub(r"://[^/@]*@", "://", url)
