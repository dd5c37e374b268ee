"""The centre's own certificate, and those that it is given."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from fleet.assemble.certificate import given, own
from fleet.assemble.encrypted import Renewing
from fleet.assemble.state import StateDir
from fleet.errors import ConfigError
from tests.tls_server import a_certificate

NOW = datetime.now(UTC)


def serial(chain: Path) -> int:
    return x509.load_pem_x509_certificate(chain.read_bytes()).serial_number


def test_a_restart_shows_the_same_certificate(tmp_path: Path) -> None:
    first, second = (own(StateDir(tmp_path), {"127.0.0.1", "lab.example.org"}, NOW) for _ in range(2))
    assert first == second
    assert serial(first.chain) == serial(second.chain)


def test_it_is_renewed_before_it_ends_and_the_fingerprint_stays(tmp_path: Path) -> None:
    first = own(StateDir(tmp_path), {"127.0.0.1"}, NOW)
    was = serial(first.chain)
    assert own(StateDir(tmp_path), {"127.0.0.1"}, NOW + timedelta(days=330)) == first
    assert serial(first.chain) == was, "it has two months left"
    later = own(StateDir(tmp_path), {"127.0.0.1"}, NOW + timedelta(days=340))
    assert serial(later.chain) != was
    assert later.sha256 == first.sha256


def test_a_new_address_gets_a_new_certificate_of_the_same_authority(tmp_path: Path) -> None:
    first = own(StateDir(tmp_path), {"127.0.0.1"}, NOW)
    was = serial(first.chain)
    second = own(StateDir(tmp_path), {"127.0.0.1", "10.0.0.9"}, NOW)
    assert (serial(second.chain) != was, second.sha256) == (True, first.sha256)


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    a_certificate(tmp_path)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_a_kill_between_key_and_certificate_is_mended(tmp_path: Path) -> None:
    a_certificate(tmp_path)
    other = a_certificate(tmp_path / "other")
    (tmp_path / "certificate.key").write_bytes(other.key.read_bytes())
    a_certificate(tmp_path).context()  # raises, if they do not fit


def test_a_running_centre_renews_without_a_restart(tmp_path: Path) -> None:
    renewing = Renewing(StateDir(tmp_path), {"127.0.0.1"})
    context, was = renewing.context(), serial(renewing.certificate.chain)
    renewing.look(None, None, context)
    assert serial(renewing.certificate.chain) == was
    own(StateDir(tmp_path), {"127.0.0.1"}, NOW - timedelta(days=390))  # as if made long ago
    (tmp_path / "certificate.pem").unlink()
    a_certificate(tmp_path, at=NOW - timedelta(days=390))
    old = serial(renewing.certificate.chain)
    renewing._looked_at -= timedelta(days=2)
    renewing.look(None, None, context)
    assert serial(renewing.certificate.chain) != old


def test_a_given_certificate_that_signed_itself_is_its_own_authority_and_one_of_an_authority_is_trusted_anyway(
    tmp_path: Path,
) -> None:
    made = a_certificate(tmp_path)
    chain = tmp_path / "certificate.pem"
    assert given(chain, made.key, None).sha256 is None
    alone = tmp_path / "own_authority.pem"
    assert given(alone, tmp_path / "own_authority.key", None).sha256 == made.sha256
    assert given(chain, made.key, alone).sha256 == made.sha256


def test_files_that_cannot_be_used_are_said_in_one_line(tmp_path: Path) -> None:
    made, other = a_certificate(tmp_path / "a"), a_certificate(tmp_path / "b")
    with pytest.raises(ConfigError, match="cannot be used together"):
        given(made.chain, other.key, None).context()
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        given(tmp_path / "none.pem", made.key, None)
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(ConfigError, match="holds no certificate in PEM"):
        given(tmp_path / "text.pem", made.key, None)
    (tmp_path / "a" / "own_authority.key").write_text("hello")
    with pytest.raises(ConfigError, match="holds no key"):
        a_certificate(tmp_path / "a", at=NOW + timedelta(days=800))


def test_nothing_older_than_tls_1_2_is_spoken(tmp_path: Path) -> None:
    assert a_certificate(tmp_path).context().minimum_version is ssl.TLSVersion.TLSv1_2
