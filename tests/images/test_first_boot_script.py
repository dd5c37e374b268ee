"""The first boot of a stock machine fetches our package from the dispatcher whose certificate is pinned, and from nobody else."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import random
import shutil
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from fleet.assemble.package import IMAGES, contents, package_file

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here (apt-get install openssl)")
SCRIPT = IMAGES / "cloud-init" / "first-boot.py"


class Dispatcher:
    """Whoever answers at an address, with a certificate of its own."""

    def __init__(self, place: Path, body: bytes) -> None:
        self.asked: list[str] = []
        self.body = body
        key, certificate = place / "key.pem", place / "certificate.pem"
        asked = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=fleet -addext subjectAltName=IP:127.0.0.1"
        made = [*asked.split(), "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(made, check=True, capture_output=True)
        self.certificate = certificate.read_text()
        self.fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.certificate)).hexdigest()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        dispatcher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                dispatcher.asked.append(self.path)
                self.send_response(200)
                is_certificate = self.path == "/edge/v1/certificate"
                body = dispatcher.certificate.encode() if is_certificate else dispatcher.body
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_file(tmp_path_factory.mktemp("package"))


@pytest.fixture
def dispatcher(tmp_path: Path, package: Path) -> Iterator[Dispatcher]:
    made = Dispatcher(tmp_path, package.read_bytes())
    yield made
    made.close()


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As on a machine, with its places under `tmp_path`."""
    spec = importlib.util.spec_from_file_location("first_boot_script", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "machine" / "fleet-package")
    return module


def fetched(script: ModuleType, monkeypatch: pytest.MonkeyPatch, url: str, fingerprint: str) -> bool:
    monkeypatch.setenv("FLEET_CENTRE_URL", url)
    monkeypatch.setenv("FLEET_CENTRE_CERT_SHA256", fingerprint)
    return bool(script.fetched())


def test_the_package_of_the_pinned_dispatcher_is_taken_whole(script, monkeypatch, dispatcher):
    assert fetched(script, monkeypatch, dispatcher.url, dispatcher.fingerprint)
    assert dispatcher.asked == ["/edge/v1/certificate", "/edge/v1/package"]
    got = {str(p.relative_to(script.PACKAGE)): p.read_bytes() for p in script.PACKAGE.rglob("*") if p.is_file()}
    assert {name: got[name] for name in contents()} == contents()
    assert (script.PACKAGE / "provision" / "run.sh").stat().st_mode & 0o111


def test_whoever_has_another_certificate_is_asked_for_nothing_else(script, monkeypatch, dispatcher, capsys):
    assert not fetched(script, monkeypatch, dispatcher.url, "0" * 64)
    assert dispatcher.asked == ["/edge/v1/certificate"]
    assert "fingerprint" in capsys.readouterr().err
    assert not script.PACKAGE.exists()


def test_whoever_shows_the_pinned_certificate_but_has_not_its_key_is_asked_for_no_package(
    script, monkeypatch, dispatcher, package, tmp_path, capsys
):
    (tmp_path / "another").mkdir()
    another = Dispatcher(tmp_path / "another", package.read_bytes())
    another.certificate = dispatcher.certificate
    assert not fetched(script, monkeypatch, another.url, dispatcher.fingerprint)
    another.close()
    assert another.asked == ["/edge/v1/certificate"]
    assert "certificate verify failed" in capsys.readouterr().err


def test_without_a_pin_a_certificate_that_nobody_vouches_for_is_refused(script, monkeypatch, dispatcher, capsys):
    assert not fetched(script, monkeypatch, dispatcher.url, "")
    assert dispatcher.asked == []
    assert "certificate verify failed" in capsys.readouterr().err


def test_a_pin_is_not_dropped_for_an_address_without_tls(script, monkeypatch, dispatcher):
    assert not fetched(script, monkeypatch, dispatcher.url.replace("https", "http"), dispatcher.fingerprint)


def damaged() -> bytes:
    """It begins as a package does, and is not one any more further on."""
    data, content = io.BytesIO(), random.Random(1).randbytes(100_000)
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo("x")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return data.getvalue()[:50_000] + b"\xff" * 50_000


def hostile(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member, io.BytesIO())
    return data.getvalue()


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", damaged(), hostile("../x"), hostile("/x"), hostile("x", tarfile.SYMTYPE)],
    ids=["empty", "page", "damaged", "up", "root", "link"],
)
def test_what_is_no_package_is_asked_for_again_and_nothing_of_it_is_kept(script, monkeypatch, dispatcher, body, capsys):
    dispatcher.body = body
    assert not fetched(script, monkeypatch, dispatcher.url, dispatcher.fingerprint)
    assert "trying again" in capsys.readouterr().err
    assert not script.PACKAGE.exists()
    dispatcher.body = package_file(script.PACKAGE.parent / "own").read_bytes()
    assert fetched(script, monkeypatch, dispatcher.url, dispatcher.fingerprint)
