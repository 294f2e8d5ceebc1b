"""`repose data fetch` against a server on loopback: resume, digests, safe unpacking, what is got by hand."""

import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from repose.__main__ import main
from repose.data import fetch as fetching
from repose.data.fetch import Archive, ByHand, Expected, Source, download, fetch, plan, unpack
from repose.errors import UserError


class _Server(ThreadingHTTPServer):
    """Serves `files`; cuts the first `cuts` answers short after `cut_at` bytes."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.cuts, self.cut_at, self.errors, self.resumes = 0, 0, 0, True

    def url(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, content = self.server, self.server.files.get(self.path[1:])
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if server.errors:
            server.errors -= 1
            return self.send_error(503)
        if content is None:
            return self.send_error(404)
        tag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
        begins = 0
        if wanted and server.resumes and self.headers.get("If-Range") == tag:
            begins = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begins >= len(content):
                return self.send_error(416)
        self.send_response(206 if begins else 200)
        if begins:
            self.send_header("Content-Range", f"bytes {begins}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(content) - begins))
        self.end_headers()
        body = content[begins:]
        if server.cuts:
            server.cuts -= 1
            body = body[: server.cut_at]
        self.wfile.write(body)
        return None


@pytest.fixture
def server():
    one = _Server()
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()


def _zip(files, link=None):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


NOISE = np.random.default_rng(0).bytes(300_000)
FILES = {"annotations/people.json": b"{}", "train/1.jpg": NOISE, "train/2.jpg": b"two"}
BROUGHT = (Expected("annotations/people.json"), Expected("train", 2))


@pytest.fixture
def served(server):
    """A source of one archive, and its server."""
    server.files["set.zip"] = _zip(FILES)
    digest = hashlib.sha256(server.files["set.zip"]).hexdigest()
    item = Archive(server.url("set.zip"), len(server.files["set.zip"]), BROUGHT, digest)
    return Source("toy", "yours alone", {"annotations": (item,)}), server


def test_plan_states_size_and_terms_first(served, tmp_path):
    source, _ = served
    lines = plan(source, tmp_path, None)
    assert lines[0] == f"toy: 300.3 kB to download into {tmp_path}" and lines[1] == "terms: yours alone"
    assert lines[2].endswith("set.zip (300.3 kB): to download") and not list(tmp_path.iterdir())


def test_download_verify_unpack_and_nothing_the_second_time(served, tmp_path):
    source, server = served
    assert fetch(source, tmp_path) == []
    for name, content in FILES.items():
        assert (tmp_path / name).read_bytes() == content
    state = json.loads((tmp_path / ".fetch" / "state.json").read_text())
    assert state["set.zip"]["sha256"] == hashlib.sha256(server.files["set.zip"]).hexdigest()
    assert [p.name for p in (tmp_path / ".fetch").iterdir()] == ["state.json"]  # the archive would double the room
    before = len(server.ranges)
    assert fetch(source, tmp_path) == [] and len(server.ranges) == before
    assert plan(source, tmp_path, None)[2].endswith(": there")


def test_a_broken_connection_is_taken_up_where_it_ended(served, tmp_path, capsys):
    source, server = served
    server.cuts, server.cut_at = 2, 100_000
    fetch(source, tmp_path, pause=0.0)
    assert server.ranges == [None, "bytes=100000-", "bytes=200000-"]
    assert (tmp_path / "train/1.jpg").read_bytes() == NOISE
    assert "the connection ended at 100.0 kB of 300.3 kB; going on" in capsys.readouterr().err


def test_a_killed_download_goes_on_in_the_next_call(server, tmp_path, monkeypatch):
    server.files["a.bin"] = NOISE
    server.cuts, server.cut_at = 1, 120_000
    monkeypatch.setattr(fetching.time, "sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        download(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin.part").stat().st_size == 120_000 and not (tmp_path / "a.bin").exists()
    download(server.url("a.bin"), tmp_path / "a.bin")
    assert server.ranges == [None, "bytes=120000-"] and (tmp_path / "a.bin").read_bytes() == NOISE
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_nothing_old_is_kept_of_a_file_that_changed(server, tmp_path, monkeypatch):
    server.files["a.bin"] = NOISE
    server.cuts, server.cut_at = 1, 120_000
    monkeypatch.setattr(fetching.time, "sleep", lambda _: server.files.update({"a.bin": NOISE[::-1]}))
    download(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == NOISE[::-1]


def test_a_server_that_cannot_resume_starts_over(server, tmp_path):
    server.files["a.bin"] = NOISE
    server.cuts, server.cut_at, server.resumes = 1, 120_000, False
    download(server.url("a.bin"), tmp_path / "a.bin", pause=0.0)
    assert (tmp_path / "a.bin").read_bytes() == NOISE


def test_a_part_longer_than_the_file_is_dropped(server, tmp_path):
    server.files["a.bin"] = NOISE
    tag = f'"{hashlib.sha256(NOISE).hexdigest()[:8]}"'
    (tmp_path / "a.bin.part").write_bytes(NOISE + b"more")
    (tmp_path / "a.bin.part.json").write_text(json.dumps({"version": tag}))
    download(server.url("a.bin"), tmp_path / "a.bin", pause=0.0)
    assert (tmp_path / "a.bin").read_bytes() == NOISE


def test_errors_of_the_server(server, tmp_path):
    server.files["a.bin"] = NOISE
    server.errors = 3
    download(server.url("a.bin"), tmp_path / "a.bin", pause=0.0)
    assert len(server.ranges) == 4
    with pytest.raises(UserError, match="the server says 404"):
        download(server.url("b.bin"), tmp_path / "b.bin")
    server.errors = 99
    with pytest.raises(UserError, match=r"the server says 503 .*nothing is kept in .*the same command goes on"):
        download(server.url("a.bin"), tmp_path / "c.bin", pause=0.0)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="Connection refused"):
        download(server.url("a.bin"), tmp_path / "d.bin", pause=0.0)


def test_a_wrong_digest_unpacks_nothing_and_removes_the_download(served, tmp_path):
    source, _ = served
    (item,) = source.parts["annotations"]
    wrong = Source("toy", "", {"annotations": (Archive(item.url, item.size, item.expected, "0" * 64),)})
    with pytest.raises(UserError, match=rf"sha256 is {item.sha256}, it must be 0000"):
        fetch(wrong, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".fetch"] and not list((tmp_path / ".fetch").iterdir())


def test_without_a_published_digest_it_is_recorded_and_told(served, tmp_path, capsys):
    source, _ = served
    (item,) = source.parts["annotations"]
    fetch(Source("toy", "", {"annotations": (Archive(item.url, item.size, item.expected),)}), tmp_path)
    assert f"sha256 {item.sha256} (its publisher states none; recorded)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_members_that_lead_outside_are_refused_before_anything_is_written(tmp_path, name):
    info = zipfile.ZipInfo("x")
    info.filename = name
    stream = tmp_path / "bad.zip"
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("good.txt", "good")
        archive.writestr(info, "bad")
    root = tmp_path / "root"
    with pytest.raises(UserError, match="leads outside the folder; nothing was unpacked"):
        unpack(stream, root)
    assert not root.exists() and sorted(p.name for p in tmp_path.iterdir()) == ["bad.zip"]


def test_links_are_refused(tmp_path):
    (tmp_path / "bad.zip").write_bytes(_zip({"a": b"a"}, link="link"))
    with pytest.raises(UserError, match="member 'link' is a link"):
        unpack(tmp_path / "bad.zip", tmp_path / "root")


def test_a_damaged_archive_is_removed(tmp_path):
    content = bytearray(_zip(FILES))
    at = content.index(NOISE[:50])
    content[at : at + 4] = b"0000"
    (tmp_path / "set.zip").write_bytes(bytes(content))
    with pytest.raises(UserError, match="not a sound zip"):
        unpack(tmp_path / "set.zip", tmp_path / "root")
    assert not (tmp_path / "set.zip").exists() and not (tmp_path / "root/train/1.jpg").exists()
    (tmp_path / "set.zip").write_bytes(b"<html>")
    with pytest.raises(UserError, match="not a sound zip"):
        unpack(tmp_path / "set.zip", tmp_path / "root")


def test_unpacking_leaves_alone_what_is_there(tmp_path):
    (tmp_path / "set.zip").write_bytes(_zip(FILES))
    unpack(tmp_path / "set.zip", tmp_path)
    time = (tmp_path / "train/1.jpg").stat().st_mtime_ns
    (tmp_path / "train/2.jpg").write_bytes(b"half of it")
    unpack(tmp_path / "set.zip", tmp_path)
    assert (tmp_path / "train/1.jpg").stat().st_mtime_ns == time
    assert (tmp_path / "train/2.jpg").read_bytes() == b"two"


def test_no_room(served, tmp_path, monkeypatch):
    source, _ = served
    usage = type("Usage", (), {"free": 400_000})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"600\.7 kB needed \(archive and unpacked\), 400\.0 kB free"):
        fetch(source, tmp_path)


def test_what_is_got_by_hand_is_looked_for(tmp_path):
    page = ByHand("https://example.org/form", "Images", (Expected("images", 2), Expected("annotations/a.json")))
    source = Source("forms", "research", {"images": (page,)})
    assert fetch(source, tmp_path) == [
        f"{tmp_path}/images is missing (2 photographs); get Images from https://example.org/form",
        f"{tmp_path}/annotations/a.json is missing; get Images from https://example.org/form",
    ]
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.jpg").write_bytes(b"")
    assert "has 1 of 2 photographs" in fetch(source, tmp_path)[0]
    (tmp_path / "images/2.jpg").write_bytes(b"")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/a.json").write_text("{}")
    assert fetch(source, tmp_path) == []


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_asks_before_it_downloads(served, tmp_path, monkeypatch, capsys):
    source, server = served
    monkeypatch.setenv("REPOSE_DATA", str(tmp_path))
    monkeypatch.setitem(fetching.SOURCES, "coco", Source("coco", source.terms, source.parts))
    assert main(["data", "fetch", "coco", "--part", "annotations"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"coco: 300.3 kB to download into {tmp_path}/coco\nterms: yours alone\n")
    assert "add --yes" in out and server.ranges == []
    assert main(["data", "fetch", "coco", "--part", "annotations", "--yes"]) == 0
    assert (tmp_path / "coco/train/1.jpg").read_bytes() == NOISE
    assert main(["data", "fetch", "coco", "--part", "annotations"]) == 0
    assert "everything is there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["coca"], "did you mean 'coco'"),
        ([], "one of: coco, crowdpose, ochuman"),
        (["coco", "--part", "box"], "no part 'box'; it has annotations, boxes, images, test-images"),
    ],
)
def test_mistakes_of_the_command(words, message, capsys):
    assert main(["data", "fetch", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("name", "where"), [("crowdpose", "github.com/Jeff-sjtu"), ("ochuman", "cg.cs.tsinghua")])
def test_data_sets_without_links_name_their_page_and_files(name, where, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPOSE_DATA", str(tmp_path))
    assert main(["data", "fetch", name, "--yes"]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{name}: 2 items to get by hand into {tmp_path}/{name}\n")
    assert where in out and f"{tmp_path}/{name}/images is missing" in out and "terms: " in out


def test_known_sources_bring_what_their_data_files_read():
    from repose import papers
    from repose.config import load

    for name in ("coco", "crowdpose", "ochuman", "coco-test-dev"):
        data = load("drpnet/m", [f"data={name}"], find_paper=papers.get).cfg.data
        source = fetching.SOURCES[data.root]
        brought = {e.path for part in source.parts.values() for item in part for e in item.expected}
        assert {data.train_json, data.val_json, data.train_images, data.val_images} <= brought
