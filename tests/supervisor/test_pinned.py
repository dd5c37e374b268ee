"""A machine that boots knows a fingerprint and a token. The token goes to the dispatcher with that fingerprint alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.assemble.certificate import Certificate
from fleet.errors import CentreRefused, CentreUnreachable, ConfigError
from fleet.pinned import authority, fingerprint, read_fingerprint
from fleet.supervisor.centre import Centre
from fleet.supervisor.start import settings
from fleet.wire import to_data
from tests.supervisor.test_centre import ENROLLED, an_enroll
from tests.tls_server import TlsServer, a_certificate

Serve = Callable[..., TlsServer]
QUESTION = "GET /edge/v1/certificate None"


@pytest.fixture
def serve() -> Iterator[Serve]:
    made: list[TlsServer] = []

    def start(certificate: Certificate, shown: str | None = None) -> TlsServer:
        made.append(TlsServer(certificate, shown, to_data(ENROLLED)))
        return made[-1]

    yield start
    for server in made:
        server.close()


def test_a_machine_enrols_with_the_dispatcher_whose_fingerprint_it_was_launched_with(
    serve: Serve, tmp_path: Path
) -> None:
    certificate = a_certificate(tmp_path / "a")
    server = serve(certificate)
    centre = Centre(server.url, certificate.sha256)
    assert centre.enroll(an_enroll()) == ENROLLED
    question, enrolment = server.told
    assert question == QUESTION
    assert '"join_token": "join"' in enrolment


def test_another_certificate_is_told_nothing(serve: Serve, tmp_path: Path) -> None:
    ours, theirs = a_certificate(tmp_path / "a"), a_certificate(tmp_path / "b")
    server = serve(theirs)
    with pytest.raises(CentreUnreachable, match=r"not the dispatcher that was meant.*nothing was sent to it$"):
        Centre(server.url, ours.sha256).enroll(an_enroll())
    assert server.told == [QUESTION]


def test_a_man_in_the_middle_who_shows_our_authority_is_told_nothing_either(serve: Serve, tmp_path: Path) -> None:
    ours, theirs = a_certificate(tmp_path / "a"), a_certificate(tmp_path / "b")
    server = serve(theirs, shown=ours.authority)  # it is no secret: anybody can have asked for it
    centre = Centre(server.url, ours.sha256)
    for _ in range(2):
        with pytest.raises(CentreUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            centre.enroll(an_enroll())
    assert server.told == [QUESTION], "and the authority is kept"


def test_an_expired_certificate_is_told_nothing(serve: Serve, tmp_path: Path) -> None:
    expired = a_certificate(tmp_path, at=datetime.now(UTC) - timedelta(days=400))
    server = serve(expired)
    with pytest.raises(CentreUnreachable, match="certificate has expired"):
        Centre(server.url, expired.sha256).enroll(an_enroll())
    assert server.told == [QUESTION]


def test_a_certificate_of_another_host_is_told_nothing(serve: Serve, tmp_path: Path) -> None:
    other = a_certificate(tmp_path, names=("fleet.example.org",))
    server = serve(other)
    with pytest.raises(CentreUnreachable, match=r"IP address mismatch|hostname"):
        Centre(server.url, other.sha256).enroll(an_enroll())
    assert server.told == [QUESTION]


def test_a_machine_with_a_fingerprint_never_speaks_plainly(tmp_path: Path) -> None:
    with pytest.raises(CentreRefused, match="must be https; nothing was sent"):
        Centre("http://127.0.0.1:1", a_certificate(tmp_path).sha256)


def test_a_machine_without_a_fingerprint_trusts_public_authorities_alone(serve: Serve, tmp_path: Path) -> None:
    server = serve(a_certificate(tmp_path))
    with pytest.raises(CentreUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        Centre(server.url).enroll(an_enroll())
    assert server.told == []


def test_a_machine_can_be_told_a_bundle_of_authorities_instead(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = a_certificate(tmp_path)
    bundle = tmp_path / "corporate.pem"
    bundle.write_text(certificate.authority or "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    assert Centre(serve(certificate).url).enroll(an_enroll()) == ENROLLED


def test_a_fingerprint_is_the_one_that_openssl_says(tmp_path: Path) -> None:
    import subprocess

    pem = a_certificate(tmp_path).authority or ""
    asked = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    said = subprocess.run(asked, input=pem, capture_output=True, text=True, check=True).stdout.strip()
    assert read_fingerprint(said.rpartition("=")[2], "PIN") == fingerprint(pem)


def test_who_is_no_dispatcher_is_said_so_in_one_line(tmp_path: Path) -> None:
    from tests.fake_centre import FakeCentre

    plain = FakeCentre(ENROLLED)
    try:
        with pytest.raises(CentreUnreachable, match=r"certificate cannot be had.*is it a fleet dispatcher with TLS\?$"):
            authority(plain.url.replace("http:", "https:"), "0" * 64)
    finally:
        plain.close()


def test_a_fingerprint_that_is_none_is_refused_before_anything_starts() -> None:
    environ = {"FLEET_CENTRE_URL": "https://c", "FLEET_INSTANCE": "i", "FLEET_JOIN_TOKEN": "once"}
    assert settings(dict(environ)).certificate_sha256 is None
    colons = ":".join(["AB"] * 32)
    assert settings({**environ, "FLEET_CENTRE_CERT_SHA256": colons}).certificate_sha256 == "ab" * 32
    with pytest.raises(ConfigError, match=r"^FLEET_CENTRE_CERT_SHA256 is not the SHA-256 of a certificate"):
        settings({**environ, "FLEET_CENTRE_CERT_SHA256": "abc"})
