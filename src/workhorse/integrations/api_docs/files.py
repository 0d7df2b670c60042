"""The files behind the page: found in the wheel that carries them, and read when the page is first asked for.

A file is served under a name that holds its hash, so that a browser may keep it for ever and never mixes two versions.
The images that Swagger UI's style sheet holds as `data:` URLs become files too, because a policy that let them in would
let in any image that an attacker writes into the page.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

__all__ = [
    "FAVICON",
    "REDIRECT_SCRIPT",
    "START_SCRIPT",
    "SWAGGER_UI_SCRIPT",
    "SWAGGER_UI_STYLE",
    "DocsFile",
    "DocsFiles",
    "find_swagger_ui",
    "load_files",
    "split_data_urls",
]

FAVICON: Final = "favicon-32x32.png"
SWAGGER_UI_SCRIPT: Final = "swagger-ui-bundle.js"
SWAGGER_UI_STYLE: Final = "swagger-ui.css"
START_SCRIPT: Final = "start.js"
REDIRECT_SCRIPT: Final = "oauth2-redirect.js"

# The wheel of the extra `docs`, and its folder with the files of Swagger UI as their makers publish them.
CARRIER: Final = ("fastapi_swagger", "resources")

HASH_CHARACTERS: Final = 16
_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
}
_IMAGE_SUFFIXES: Final[Mapping[str, str]] = {
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/svg+xml": ".svg",
}
# A `url()` of CSS (css-syntax-3, section 4.3.6) with a data URL in it, quoted or not.
_DATA_URL: Final = re.compile(
    r"""url\(\s*(?:"(?P<double>data:(?:[^"\\]|\\.)*)"|'(?P<single>data:(?:[^'\\]|\\.)*)'|(?P<bare>data:[^\s"'()\\]*))\s*\)""",
    re.DOTALL,
)
# An escaped character (section 4.3.7), but for those that are given by number.
_ESCAPED: Final = re.compile(r"\\([^0-9a-fA-F\n])")


class DocsFile(NamedTuple):
    """One file as it is served."""

    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class DocsFiles:
    """The files of the page."""

    served: Mapping[str, DocsFile]
    """By the name that it is served under."""
    names: Mapping[str, str]
    """That name, by the plain one."""

    def __contains__(self, plain: str) -> bool:
        return plain in self.names


def find_swagger_ui() -> Path | None:
    """The folder with the files of Swagger UI; None where the extra `docs` is not installed."""
    package, folder = CARRIER
    # The package is looked up and not imported: none of its code runs here.
    spec = find_spec(package)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        found = Path(location, folder)
        if all((found / name).is_file() for name in (SWAGGER_UI_SCRIPT, SWAGGER_UI_STYLE, FAVICON)):
            return found
    return None


def load_files(swagger_ui: Path | None) -> DocsFiles:
    """Read our own files and, where they are, those of Swagger UI: about 2 MB. Blocks on the disk.

    Raises:
        OSError: a file that was found cannot be read.
    """
    ours = files("workhorse.integrations.api_docs")
    plain = {name: ours.joinpath(name).read_bytes() for name in (START_SCRIPT, REDIRECT_SCRIPT)}
    images: dict[str, DocsFile] = {}
    if swagger_ui is not None:
        plain |= {name: (swagger_ui / name).read_bytes() for name in (SWAGGER_UI_SCRIPT, FAVICON)}
        style, images = split_data_urls((swagger_ui / SWAGGER_UI_STYLE).read_text(encoding="utf-8"))
        plain[SWAGGER_UI_STYLE] = style.encode()
    return _hashed(plain.items(), images)


def _hashed(plain: Iterable[tuple[str, bytes]], images: Mapping[str, DocsFile]) -> DocsFiles:
    served, names = dict(images), dict[str, str]()
    for name, body in plain:
        path = Path(name)
        names[name] = f"{path.stem}.{_hash(body)}{path.suffix}"
        served[names[name]] = DocsFile(_TYPES[path.suffix], body)
    return DocsFiles(served, names)


def split_data_urls(style: str) -> tuple[str, dict[str, DocsFile]]:
    """Take the images out of a style sheet: the sheet, which now names files beside it, and those files.

    Anything but a well-formed GIF, JPEG, PNG or SVG stays where it is.
    """
    images: dict[str, DocsFile] = {}

    def take_out(match: re.Match[str]) -> str:
        quoted = match["double"] or match["single"]
        image = _parse_data_url(_ESCAPED.sub(r"\1", quoted) if quoted else match["bare"])
        if image is None:
            return match[0]
        name = f"image.{_hash(image.body)}{_IMAGE_SUFFIXES[image.content_type]}"
        images[name] = image
        return f"url({name})"

    return _DATA_URL.sub(take_out, style), images


def _parse_data_url(url: str) -> DocsFile | None:
    """The image in a data URL (RFC 2397); None if it is none that we know."""
    head, comma, data = url.removeprefix("data:").partition(",")
    media, *parameters = [part.strip().lower() for part in head.split(";")]
    if not comma or media not in _IMAGE_SUFFIXES:
        return None
    body = unquote_to_bytes(data)
    if "base64" in parameters:
        try:
            body = base64.b64decode(body, validate=True)
        except binascii.Error:
            return None
    return DocsFile(media, body)


def _hash(body: bytes) -> str:
    return sha256(body).hexdigest()[:HASH_CHARACTERS]
