"""`repose data fetch`: public data sets, downloaded resumably, verified, unpacked; or told how to get them by hand.

What is downloaded lies in `.fetch/` below the data set's folder until it is unpacked; `.fetch/state.json` keeps each
archive's size and SHA-256, so that a second call does nothing and a digest can be compared with a colleague's.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import stat
import sys
import time
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from repose.data.files import whole, write_json
from repose.errors import UserError

_CHUNK = 1 << 20
_TIMEOUT = 60
"""[s] without a byte before a connection is given up and taken up again."""
_ATTEMPTS = 6
"""Attempts in a row that bring nothing before a download is given up."""


@dataclass(frozen=True)
class Expected:
    """A file below the data set's folder, or a folder of photographs.

    Attributes:
        path: below the folder.
        files: number of files that a folder must hold; None for a file.
    """

    path: str
    files: int | None = None

    def problem(self, root: Path) -> str | None:
        """What is missing, or None."""
        place = root / self.path
        if self.files is None:
            return None if place.is_file() else f"{place} is missing"
        if not place.is_dir():
            return f"{place} is missing ({self.files} photographs)"
        found = sum(entry.is_file() for entry in place.iterdir())
        return None if found >= self.files else f"{place} has {found} of {self.files} photographs"


@dataclass(frozen=True)
class Archive:
    """A zip that a plain link gives, unpacked into the data set's folder.

    Attributes:
        url: of the zip.
        size: bytes as its site states them, for the plan; the server's own number is what a download is held to.
        expected: what it brings.
        sha256: its digest where its publisher states one; else the digest is recorded and printed.
    """

    url: str
    size: int
    expected: tuple[Expected, ...]
    sha256: str | None = None

    @property
    def name(self) -> str:
        """File name."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class ByHand:
    """Files that no plain link gives (a form, a file host).

    Attributes:
        page: where to get them.
        what: what to take there.
        expected: where it goes.
    """

    page: str
    what: str
    expected: tuple[Expected, ...]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        name: of `experiments/data/<name>.yaml`.
        terms: what its owners allow, one line.
        parts: annotations, boxes, images, ...
    """

    name: str
    terms: str
    parts: dict[str, tuple[Archive | ByHand, ...]]


_COCO = "http://images.cocodataset.org"
_MB, _GB = 10**6, 10**9
_BOXES_PAGE = "https://github.com/leoxiaobin/deep-high-resolution-net.pytorch (README, Data preparation)"

COCO = Source(
    "coco",
    "annotations CC BY 4.0; photographs under Flickr's terms, their copyright is not COCO's "
    "(https://cocodataset.org/#termsofuse)",
    {
        "annotations": (
            Archive(
                f"{_COCO}/annotations/annotations_trainval2017.zip",
                241 * _MB,
                tuple(Expected(f"annotations/person_keypoints_{split}2017.json") for split in ("train", "val")),
            ),
            Archive(
                f"{_COCO}/annotations/image_info_test2017.zip",
                1 * _MB,
                (Expected("annotations/image_info_test-dev2017.json"),),
            ),
        ),
        "boxes": (
            ByHand(
                _BOXES_PAGE,
                "the person detection results (COCO_val2017_detections_AP_H_56_person.json and, for test-dev, "
                "COCO_test-dev2017_detections_AP_H_609_person.json)",
                (Expected("person_detection_results/COCO_val2017_detections_AP_H_56_person.json"),),
            ),
        ),
        "images": (
            Archive(f"{_COCO}/zips/train2017.zip", 19 * _GB, (Expected("train2017", 118287),)),
            Archive(f"{_COCO}/zips/val2017.zip", 1 * _GB, (Expected("val2017", 5000),)),
        ),
        "test-images": (Archive(f"{_COCO}/zips/test2017.zip", 6 * _GB, (Expected("test2017", 40670),)),),
    },
)

_CROWDPOSE_PAGE = "https://github.com/Jeff-sjtu/CrowdPose (README, Dataset: two Google Drive links)"
CROWDPOSE = Source(
    "crowdpose",
    "no licence is stated; treat it as research use only and cite Li et al., CVPR 2019",
    {
        "annotations": (
            ByHand(
                _CROWDPOSE_PAGE,
                "Annotations",
                tuple(Expected(f"annotations/crowdpose_{split}.json") for split in ("trainval", "test")),
            ),
        ),
        "images": (ByHand(_CROWDPOSE_PAGE, "Train + Validation + Test Images", (Expected("images", 20000),)),),
    },
)

_OCHUMAN_PAGE = "https://cg.cs.tsinghua.edu.cn/dataset/form.html?dataset=ochuman (a form; 667 MB)"
OCHUMAN = Source(
    "ochuman",
    "research use, by a form at Tsinghua University; cite Zhang et al., CVPR 2019",
    {
        "annotations": (
            ByHand(
                _OCHUMAN_PAGE,
                "the COCO-style annotations (or ochuman.json, then `repose data convert`)",
                tuple(
                    Expected(f"annotations/ochuman_coco_format_{split}_range_0.00_1.00.json")
                    for split in ("val", "test")
                ),
            ),
        ),
        "images": (ByHand(_OCHUMAN_PAGE, "Images", (Expected("images", 4731),)),),
    },
)

_MPII_PAGE = "http://human-pose.mpi-inf.mpg.de (Download: images 12.9 GB, annotations 12.5 MB)"
MPII = Source(
    "mpii",
    "research use only, no commercial use (frames of YouTube videos); cite Andriluka et al., CVPR 2014",
    {
        "annotations": (
            ByHand(
                _MPII_PAGE,
                "mpii_human_pose_v1_u12_1.mat, with mpii_val.json of HRNet or mmpose (Tompson's validation people) "
                "beside it, then `repose data convert`",
                tuple(Expected(f"annotations/mpii_coco_{split}.json") for split in ("train", "val")),
            ),
        ),
        "images": (ByHand(_MPII_PAGE, "Images", (Expected("images", 24984),)),),
    },
)

SOURCES = {source.name: source for source in (COCO, CROWDPOSE, OCHUMAN, MPII)}


def items(source: Source, part: str | None) -> tuple[Archive | ByHand, ...]:
    """The items of a part, or of annotations, boxes and images together.

    Raises:
        UserError: there is no such part.
    """
    if part is None:
        return tuple(item for name in ("annotations", "boxes", "images") for item in source.parts.get(name, ()))
    if part not in source.parts:
        raise UserError(f"data fetch {source.name}: no part {part!r}; it has {', '.join(source.parts)}")
    return source.parts[part]


def plan(source: Source, root: Path, part: str | None) -> list[str]:
    """What a fetch would do: size and terms first, then each item and whether it is there.

    Args:
        source: the data set.
        root: its folder.
        part: one part, or None for annotations, boxes and images.
    """
    wanted = items(source, part)
    missing = [item for item in wanted if _problems(item, root)]
    size = sum(item.size for item in missing if isinstance(item, Archive))
    by_hand = sum(isinstance(item, ByHand) for item in missing)
    what = [f"{_size(size)} to download"] if size else []
    what += [f"{by_hand} {'item' if by_hand == 1 else 'items'} to get by hand"] if by_hand else []
    lines = [f"{source.name}: {' and '.join(what) or 'nothing to get'} into {root}", f"terms: {source.terms}"]
    for item in wanted:
        problems = _problems(item, root)
        if isinstance(item, Archive):
            lines.append(f"  {item.url} ({_size(item.size)}): {'to download' if problems else 'there'}")
        else:
            lines.append(f"  {item.what}: {'by hand' if problems else 'there'}, from {item.page}")
            lines += [f"    {problem}" for problem in problems]
    return lines


def fetch(source: Source, root: Path, part: str | None = None, pause: float = 1.0) -> list[str]:
    """Download, verify and unpack what is missing.

    Args:
        source: the data set.
        root: its folder; made if need be.
        part: one part, or None for annotations, boxes and images.
        pause: [s] before a broken connection is first taken up again; doubles each time.

    Returns:
        what is still missing because it has to be got by hand, one line each.

    Raises:
        UserError: no connection, no room, a wrong digest, or an archive that would write outside the folder.
    """
    left = []
    for item in items(source, part):
        if not _problems(item, root):
            continue
        if isinstance(item, ByHand):
            left += [f"{problem}; get {item.what} from {item.page}" for problem in _problems(item, root)]
            continue
        file = root / ".fetch" / item.name
        digest = _verified(item, file, pause)
        _say(f"{item.name}: sha256 {digest}{'' if item.sha256 else ' (its publisher states none; recorded)'}")
        unpack(file, root)
        if problems := _problems(item, root):
            raise UserError(f"{file}: unpacked, but {problems[0]}; the archive is not what it was")
        _record(root, item.name, {"sha256": digest, "bytes": file.stat().st_size, "url": item.url})
        file.unlink()  # unpacked, it would only double the room
    return left


def _problems(item: Archive | ByHand, root: Path) -> list[str]:
    return [problem for expected in item.expected if (problem := expected.problem(root))]


def _verified(item: Archive, file: Path, pause: float) -> str:
    if not file.is_file():
        download(item.url, file, pause)
    digest = _digest(file)
    if item.sha256 and digest != item.sha256:
        file.unlink()
        raise UserError(
            f"{item.url}: sha256 is {digest}, it must be {item.sha256}; the download was removed, try again"
        )
    return digest


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _record(root: Path, name: str, entry: dict[str, Any]) -> None:
    file = root / ".fetch" / "state.json"
    known = json.loads(file.read_text()) if file.is_file() else {}
    write_json(file, {**known, name: entry})


# --- download --------------------------------------------------------------------------------------------------------


def download(url: str, file: Path, pause: float = 1.0) -> None:
    """Download a file, going on where an earlier call or a broken connection stopped.

    The part lies beside the file as `<name>.part`, with the server's mark of the version (`<name>.part.json`): of a
    file that changed meanwhile nothing old is kept.

    Args:
        url: http or https.
        file: where it goes.
        pause: [s] before the first new attempt after a failure; doubles each time.

    Raises:
        UserError: the server refuses, cannot be reached, or the disk is full.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part, mark = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.part.json")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        reason = _go_on(url, part, mark)
        if reason is None:
            break
        failures = 0 if part.exists() and part.stat().st_size > before else failures + 1
        if failures >= _ATTEMPTS:
            have = _size(part.stat().st_size) if part.exists() else "nothing"
            raise UserError(f"{url}: {reason}; {have} is kept in {part.parent}, the same command goes on from there")
        _say(f"{file.name}: {reason}; going on")
        time.sleep(pause * 2**failures)
    part.replace(file)
    mark.unlink(missing_ok=True)


def _go_on(url: str, part: Path, mark: Path) -> str | None:
    """One connection's worth of a download. Returns: why it is not complete, or None."""
    have = part.stat().st_size if part.exists() else 0
    version = json.loads(mark.read_text())["version"] if mark.is_file() else None
    headers = {"User-Agent": "repose"}
    if have and version:
        # If-Range: the server answers with the whole file if it is no longer the one that the part is of.
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    else:
        have = 0
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as answer:
            begins = _begins(answer, have)
            length = answer.headers.get("Content-Length")
            total = begins + int(length) if length is not None else None
            tag = answer.headers.get("ETag") or ""
            # A weak tag ("about the same file") may not be used to go on with.
            version = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")
            write_json(mark, {"version": version})
            _check_room(part.parent, (total or begins) - begins)
            return _copy(answer, part, begins, total)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the part is longer than the file: it is of another one
            part.unlink(missing_ok=True)
            return "the server's file has changed"
        if error.code < 500 and error.code not in (408, 429):
            raise UserError(f"{url}: the server says {error.code} {error.reason}") from None
        return f"the server says {error.code} {error.reason}"
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno == 28:
            raise UserError(f"{part.parent}: the disk is full; the same command goes on when there is room") from None
        return f"{getattr(error, 'reason', None) or error or type(error).__name__}"


def _begins(answer: Any, have: int) -> int:
    if answer.status != 206:
        return 0  # the whole file, from its start
    begins = int(answer.headers["Content-Range"].split()[1].split("-")[0])
    if begins != have:
        raise http.client.HTTPException(f"asked for bytes from {have}, got them from {begins}")
    return begins


def _copy(answer: Any, part: Path, begins: int, total: int | None) -> str | None:
    done, start = begins, time.monotonic()
    with part.open("r+b" if begins else "wb") as stream:
        stream.seek(begins)
        stream.truncate()
        while block := answer.read(_CHUNK):
            stream.write(block)
            done += len(block)
            _progress(part.name.removesuffix(".part"), done, total, done - begins, time.monotonic() - start)
    if total is not None and done < total:
        return f"the connection ended at {_size(done)} of {_size(total)}"
    return None


def _check_room(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if 2 * need > free:  # the archive, and what is unpacked from it
        raise UserError(f"{folder}: {_size(2 * need)} needed (archive and unpacked), {_size(free)} free")


# --- unpack ----------------------------------------------------------------------------------------------------------


def unpack(file: Path, root: Path) -> None:
    """Unpack a zip; files that are there with the same size are left alone, others appear whole or not at all.

    Args:
        file: the zip.
        root: where to.

    Raises:
        UserError: not a whole zip, or a member that would lie outside `root`; nothing is written then.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            for member in members:
                _refuse_outside(member, file)
            for number, member in enumerate(members, 1):
                place = root / member.filename
                if place.is_file() and place.stat().st_size == member.file_size:
                    continue
                with archive.open(member) as source, whole(place) as part, part.open("wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
                _progress(f"{file.name} unpacked", number, len(members), 0, 0)
    except (zipfile.BadZipFile, EOFError) as error:
        file.unlink(missing_ok=True)
        raise UserError(f"{file}: not a sound zip ({error}); it was removed, try again") from None


def _refuse_outside(member: zipfile.ZipInfo, file: Path) -> None:
    path = PurePosixPath(member.filename)
    link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename or link:
        what = "is a link" if link else "leads outside the folder"
        raise UserError(f"{file}: member {member.filename!r} {what}; nothing was unpacked")


# --- words -----------------------------------------------------------------------------------------------------------


def _size(count: int) -> str:
    for unit, size in (("GB", _GB), ("MB", _MB), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _progress(name: str, done: int, total: int | None, since: int, seconds: float) -> None:
    if not sys.stderr.isatty():
        return
    if not since:
        print(f"\r{name}: {done} of {total} files ", end="\n" if done == total else "", file=sys.stderr)
        return
    left = f", {(total - done) / since * seconds:.0f} s left" if total else ""
    of = f" of {_size(total)}" if total else ""
    print(f"\r{name}: {_size(done)}{of}{left}   ", end="\n" if done == total else "", file=sys.stderr)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
