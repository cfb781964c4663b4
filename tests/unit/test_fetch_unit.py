"""Downloads from a server on this machine that does everything wrong a server can do wrong."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request

import pytest

from skelbook.data import fetch as module
from skelbook.data.fetch import check_address, fetch

BODY = bytes(range(256)) * 1200                # 307,200 bytes
OTHER = BODY[::-1]
QUICK = {"pause": 0.001, "timeout": 0.3, "tries": 3}


class Shop(BaseHTTPRequestHandler):
    "A server of one file, whose habits are attributes of the server."

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        shop = self.server
        shop.asked.append(self.headers.get("Range"))
        self.close_connection = True
        if shop.refuse:
            return self.send_error(shop.refuse.pop(0))
        if shop.elsewhere:
            self.send_response(302)
            self.send_header("Location", shop.elsewhere)
            return self.end_headers()
        self.answer(shop, self.wanted(shop))

    def wanted(self, shop):
        "First byte to send."
        fits = shop.obeys_any_mark or self.headers.get("If-Range") == shop.mark
        if not shop.ranges or not self.headers.get("Range") or not fits:
            return 0
        return int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))

    def answer(self, shop, start):
        "Head and body, from byte `start`, as long as the patience lasts."
        self.send_response(206 if start else 200)
        length = len(shop.body)
        headers = {"ETag": shop.mark, "Content-Length": str(shop.claimed or length - start),
                   "Content-Range": start and f"bytes {start + shop.lie}-{length - 1}/{length}"}
        for name, value in (headers | shop.headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        piece = shop.body[start:start + shop.patience]
        if shop.headers.get("Transfer-Encoding"):
            piece = b"%x\r\n%s\r\n" % (len(piece), piece) + (b"0\r\n\r\n" if shop.whole else b"")
        self.wfile.write(piece)
        self.wfile.flush()
        if shop.stalls:
            shop.stalls -= 1
            shop.awake.wait(2)

    def log_message(self, *words):
        pass


@pytest.fixture
def shop():
    "A server on loopback; change its attributes to change its habits."
    with open_shop() as server:
        yield server


@contextmanager
def open_shop():
    "A block with a server that serves `BODY` without faults."
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    server.__dict__.update(body=BODY, mark='"v1"', ranges=True, patience=10 ** 9, refuse=[],
                           stalls=0, elsewhere="", claimed=0, lie=0, headers={}, whole=True,
                           asked=[], obeys_any_mark=False, awake=threading.Event(),
                           url=f"http://127.0.0.1:{server.server_port}/data.pkl")
    server.handle_error = lambda *_: None              # a client that hangs up is no news here
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        close(server)


def close(server):
    "Ends a server."
    server.awake.set()
    server.shutdown()
    server.server_close()


def interrupt_after(count):
    "Progress that stops the download once `count` bytes are here."
    def progress(done, total):
        if done >= count:
            raise KeyboardInterrupt
    return progress


def start(shop, path, count=100_000):
    "A download that is interrupted on the way."
    with pytest.raises(KeyboardInterrupt):
        fetch(shop.url, path, progress=interrupt_after(count), **QUICK)
    assert not path.exists() and path.with_name(".data.pkl.part").stat().st_size >= count
    shop.asked.clear()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "in" / "data.pkl"


def left(path):
    "What lies in the folder of a download."
    return sorted(os.listdir(path.parent))


# -- it arrives

def test_a_file_arrives_whole_with_its_fingerprint(shop, path):
    reports = []
    digest = fetch(shop.url, path, progress=lambda *report: reports.append(report), **QUICK)
    assert path.read_bytes() == BODY and digest == hashlib.sha256(BODY).hexdigest()
    assert left(path) == ["data.pkl", "data.pkl.sha256"]
    assert reports[-1] == (len(BODY), len(BODY)) and reports == sorted(reports)
    record = path.with_name("data.pkl.sha256").read_text().splitlines()
    assert record == [f"# {len(BODY)} bytes from {shop.url}", f"{digest}  data.pkl"]


def test_the_record_is_what_sha256sum_reads(shop, path):
    if not shutil.which("sha256sum"):
        pytest.skip("there is no sha256sum here")
    fetch(shop.url, path, **QUICK)
    subprocess.run(["sha256sum", "--check", "--strict", "data.pkl.sha256"], cwd=path.parent,
                   check=True, capture_output=True)


def test_an_empty_file_is_a_file(shop, path):
    shop.body = b""
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == b""


def test_a_key_in_the_address_is_not_written_down(shop, path):
    fetch(shop.url + "?token=secret", path, **QUICK)
    assert "secret" not in path.with_name("data.pkl.sha256").read_text()


def test_chunks_show_their_end(shop, path):
    shop.headers = {"Transfer-Encoding": "chunked", "Content-Length": ""}
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == BODY


def test_chunks_without_an_end_are_noticed(shop, path):
    shop.headers, shop.whole = {"Transfer-Encoding": "chunked", "Content-Length": ""}, False
    with pytest.raises(OSError, match="tried 3 times"):
        fetch(shop.url, path, **QUICK)
    assert not path.exists()


# -- it continues

def test_an_interrupted_download_continues_where_it_stopped(shop, path):
    start(shop, path)
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == BODY and len(shop.asked) == 1
    assert int(shop.asked[0].removeprefix("bytes=").removesuffix("-")) >= 100_000


def test_a_line_that_breaks_again_and_again_still_brings_the_file(shop, path):
    shop.patience = 30_000
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == BODY and len(shop.asked) == 11


def test_a_server_without_parts_begins_again(shop, path):
    start(shop, path)
    shop.ranges = False
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == BODY


def test_a_server_without_parts_that_always_breaks_is_given_up(shop, path):
    shop.ranges, shop.patience = False, 30_000
    with pytest.raises(OSError, match=r"ended after 30,000 of 307,200 bytes; tried 3 times"):
        fetch(shop.url, path, **QUICK)
    assert len(shop.asked) == 3


def test_a_changed_file_is_not_glued_to_the_old_one(shop, path):
    start(shop, path)
    shop.body, shop.mark = OTHER, '"v2"'
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == OTHER


def test_not_even_by_a_server_that_ignores_the_mark(shop, path):
    start(shop, path)
    shop.body, shop.mark, shop.obeys_any_mark = OTHER, '"v2"', True
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == OTHER


def test_a_shorter_new_version_is_not_glued_either(shop, path):
    start(shop, path)
    shop.refuse = [416]
    shop.body, shop.mark = OTHER[:5000], '"v2"'
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == OTHER[:5000]


def test_a_part_from_another_place_than_asked_for_is_not_used(shop, path):
    start(shop, path)
    shop.lie = 7
    with pytest.raises(OSError, match="another part than asked for"):
        fetch(shop.url, path, **QUICK | {"tries": 1})
    shop.lie = 0
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == BODY


def test_without_a_mark_it_begins_again(shop, path):
    shop.mark = ""
    start(shop, path)
    fetch(shop.url, path, **QUICK)
    assert shop.asked == [None] and path.read_bytes() == BODY


def test_another_address_does_not_continue_the_part(shop, path):
    start(shop, path)
    fetch(shop.url.replace("data.pkl", "mirror.pkl"), path, **QUICK)
    assert shop.asked == [None] and path.read_bytes() == BODY


@pytest.mark.parametrize("ticket", ["", "{", "[]", "null", '{"address": 1}', '{"length": "many"}'])
def test_a_damaged_ticket_means_to_begin_again(shop, path, ticket):
    start(shop, path)
    path.with_name(".data.pkl.ticket").write_text(ticket)
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == BODY


def test_a_part_without_a_ticket_is_not_trusted(shop, path):
    path.parent.mkdir()
    path.with_name(".data.pkl.part").write_bytes(b"something else")
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == BODY


def test_a_complete_part_is_only_given_its_name(shop, path):
    with pytest.raises(KeyboardInterrupt):
        fetch(shop.url, path, progress=interrupt_after(len(BODY)), **QUICK)
    shop.asked.clear()
    fetch(shop.url, path, **QUICK)
    assert shop.asked == [] and path.read_bytes() == BODY


@pytest.mark.parametrize("step", ["write_bytes", "mark"])
def test_killed_while_beginning_again_it_never_glues(shop, path, step, monkeypatch):
    start(shop, path)
    shop.body, shop.mark = OTHER, '"v2"'
    with monkeypatch.context() as patch:
        def die(*_):
            raise SystemExit
        if step == "mark":
            patch.setattr(module, "atomic_write", die)
        else:
            patch.setattr(module, "_require_space", die)
        with pytest.raises(SystemExit):
            fetch(shop.url, path, **QUICK)
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == OTHER


# -- it fails as it should

def test_a_server_that_stalls_is_asked_again(shop, path):
    shop.patience, shop.stalls = 200_000, 1
    fetch(shop.url, path, **QUICK)
    assert shop.asked == [None, "bytes=200000-"] and path.read_bytes() == BODY


def test_a_server_that_stalls_for_ever_is_given_up(shop, path):
    shop.patience, shop.stalls = 0, 99
    with pytest.raises(OSError, match="timed out; tried 2 times"):
        fetch(shop.url, path, **QUICK | {"tries": 2, "timeout": 0.1})


@pytest.mark.parametrize("code", [404, 403, 410, 401])
def test_a_refusal_is_told_at_once(shop, path, code):
    shop.refuse = [code] * 9
    with pytest.raises(ValueError, match=f"data.pkl: {code} "):
        fetch(shop.url, path, **QUICK)
    assert len(shop.asked) == 1 and left(path) == []


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_not_now_is_asked_again(shop, path, code):
    shop.refuse = [code, code]
    fetch(shop.url, path, **QUICK)
    assert len(shop.asked) == 3 and path.read_bytes() == BODY


def test_nobody_there(shop, path):
    close(shop)
    with pytest.raises(OSError, match=r"refused; tried 3 times, 0.0 MB are kept"):
        fetch(shop.url, path, **QUICK)


def test_a_length_that_was_wrong_is_noticed(shop, path):
    shop.claimed = len(BODY) + 10
    with pytest.raises(OSError, match="307,200 of 307,210"):
        fetch(shop.url, path, **QUICK | {"tries": 1})
    assert not path.exists()


@pytest.mark.parametrize("headers", [{"Content-Length": ""}, {"Content-Encoding": "gzip"}])
def test_what_cannot_be_checked_is_refused(shop, path, headers):
    shop.headers = headers
    with pytest.raises(ValueError, match="does not say how long|packs the file"):
        fetch(shop.url, path, **QUICK)
    assert not path.exists()


def test_a_full_disk_is_told_before_the_first_byte(shop, path, monkeypatch):
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"0\.3 MB are needed, 0\.0 MB are free"):
        fetch(shop.url, path, **QUICK)
    assert not path.exists() and len(shop.asked) == 1


def test_a_disk_that_fills_up_on_the_way_keeps_the_part(shop, path):
    def full(done, total):
        if done > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device", "part")
    with pytest.raises(OSError, match="No space left"):
        fetch(shop.url, path, progress=full, **QUICK)
    assert len(shop.asked) == 1
    fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == BODY


# -- it is the file it was

def test_the_second_time_nothing_is_asked(shop, path):
    first = fetch(shop.url, path, **QUICK)
    shop.asked.clear()
    assert fetch(shop.url, path, **QUICK) == first and shop.asked == []


def test_a_file_that_changed_on_the_disk_is_noticed(shop, path):
    fetch(shop.url, path, **QUICK)
    path.write_bytes(OTHER)
    with pytest.raises(ValueError, match="in data.pkl.sha256 is"):
        fetch(shop.url, path, **QUICK)
    assert path.read_bytes() == OTHER


def test_a_file_that_changed_on_the_server_is_noticed(shop, path):
    fetch(shop.url, path, **QUICK)
    path.unlink()
    shop.body, shop.mark = OTHER, '"v2"'
    with pytest.raises(ValueError, match="in data.pkl.sha256 is"):
        fetch(shop.url, path, **QUICK)
    assert left(path) == ["data.pkl.sha256"]


def test_a_known_fingerprint_is_required(shop, path):
    with pytest.raises(ValueError, match="the one given is 0000"):
        fetch(shop.url, path, sha256="0" * 64, **QUICK)
    assert left(path) == []
    fetch(shop.url, path, sha256=hashlib.sha256(BODY).hexdigest().upper(), **QUICK)
    assert path.exists()


def test_a_file_that_somebody_put_there_is_remembered_too(shop, path):
    path.parent.mkdir()
    path.write_bytes(BODY)
    fetch(shop.url, path, **QUICK)
    assert shop.asked == [] and left(path) == ["data.pkl", "data.pkl.sha256"]


def test_two_processes_do_not_write_one_part(shop, path):
    said = []

    def second(done, total):
        if not said:
            said.append("")
            with pytest.raises(ValueError, match="data.pkl is being fetched by another process"):
                fetch(shop.url, path, **QUICK)
            said.append("refused")
    fetch(shop.url, path, progress=second, **QUICK)
    assert said == ["", "refused"] and path.read_bytes() == BODY


# -- where it goes

@pytest.mark.parametrize("address", ["http://[::1]:80/a", "http://localhost/a", "HTTPS://a.org/b"])
def test_good_addresses(address):
    assert check_address(address) == address


@pytest.mark.parametrize("address", [
    "", "https://", "https:///a", "data:,a", "http://127.0.0.1.example.org/a", "http://0x7f000001/a",
    "http://localhost.example.org/a", "https://[::1/a", "file://localhost/etc/passwd"])
def test_bad_addresses(address, path):
    with pytest.raises(ValueError):
        fetch(address, path)
    assert not path.exists()


@pytest.mark.parametrize("target", ["http://example.org/a", "file:///etc/passwd", "ftp://a.org/b"])
def test_a_server_cannot_send_us_to_an_address_that_we_would_not_ask(shop, path, target):
    shop.elsewhere = target
    with pytest.raises(ValueError, match="only https|not allowed"):
        fetch(shop.url, path, **QUICK)
    assert left(path) == []


def test_a_server_outside_cannot_send_us_to_this_machine():
    outside = Request("https://example.org/a")
    with pytest.raises(ValueError, match="on this machine: refused"):
        module._Redirects().redirect_request(outside, None, 302, "", {}, "http://127.0.0.1/a")
    with pytest.raises(ValueError, match="on this machine: refused"):
        module._Redirects().redirect_request(outside, None, 302, "", {}, "https://localhost/a")


def test_a_redirect_on_this_machine_is_followed(shop, path):
    with open_shop() as first:
        first.elsewhere = shop.url
        fetch(first.url, path, **QUICK)
    assert path.read_bytes() == BODY and len(first.asked) == len(shop.asked) == 1


def test_the_ticket_is_plain_json(shop, path):
    start(shop, path)
    ticket = json.loads(path.with_name(".data.pkl.ticket").read_text())
    assert ticket == {"address": shop.url, "mark": '"v1"', "length": len(BODY)}
