"""The files server under /files: the protocol of the SDK, and no way out of the directory."""

from pathlib import Path

import pytest

from tests.server.embedded import Client, Response


def upload(client: Client, name: str, content: bytes, path: str = "/files", end: bytes = b"--xyz--\r\n") -> Response:
    """As the SDK does it: one part, named by the path."""
    head = f'--xyz\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
    body = head.encode() + b"Content-Type: application/json\r\n\r\n" + content + b"\r\n" + end
    return client.send("POST", path, body, {"content-type": "multipart/form-data; boundary=xyz"})


@pytest.mark.parametrize(
    ("path", "name"),
    [("/files", "/proj/a.1/x y.json"), ("/files/", "proj/a.1/x y.json"), ("/", "/files/proj/a.1/x y.json")],
)
def test_a_part_is_stored_under_its_name(client: Client, path: str, name: str) -> None:
    answer = upload(client, name, b'{"a": 1}', path)
    assert (answer.code, answer.json) == (200, ["proj/a.1/x y.json"])
    found = client.send("GET", "/files/proj/a.1/x y.json")
    assert (found.code, found.body) == (200, b'{"a": 1}')
    assert found.headers["content-type"] == "application/json"


def test_a_large_file_goes_through_disk_and_comes_back_in_ranges(client: Client) -> None:
    content = bytes(range(256)) * 20_000  # 5 MB
    assert upload(client, "/big.bin", content).code == 200
    assert client.send("GET", "/files/big.bin").body == content
    part = client.send("GET", "/files/big.bin", headers={"range": "bytes=1000000-1000009"})
    assert (part.code, part.body) == (206, content[1_000_000:1_000_010])
    head = client.send("HEAD", "/files/big.bin")
    assert (head.code, head.headers["content-length"], head.body) == (200, str(len(content)), b"")


def test_an_upload_replaces_the_file_as_a_whole_or_not_at_all(client: Client) -> None:
    upload(client, "/a/b", b"old")
    assert upload(client, "/a/b", b"half", end=b"").code == 400
    assert client.send("GET", "/files/a/b").body == b"old"
    upload(client, "/a/b", b"new")
    assert client.send("GET", "/files/a/b").body == b"new"
    assert list((client.server.settings.files_dir / ".incoming").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["/../x", "/a/../../x", "..", "/", "/.incoming/x", "/a\x00b", "/" + "n" * 300, "/nn" * 1400]
)
def test_no_name_leads_out_of_the_directory(client: Client, tmp_path: Path, name: str) -> None:
    assert upload(client, name, b"evil").code == 400
    assert not (tmp_path / "x").exists()
    for method in ("GET", "DELETE"):
        assert client.send(method, f"/files{name if name.startswith('/') else '/' + name}").code in (400, 404, 405)


def test_a_link_in_the_directory_leads_nowhere(client: Client, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (client.server.settings.files_dir / "link").symlink_to(tmp_path)
    assert client.send("GET", "/files/link/secret").code == 400
    assert upload(client, "/link/x", b"evil").code == 400


def test_deleting_takes_empty_folders_along(client: Client) -> None:
    upload(client, "/a/b/one", b"1")
    upload(client, "/a/b/two", b"2")
    upload(client, "/a/three", b"3")
    assert client.send("DELETE", "/files/a/three").code == 200
    assert client.send("DELETE", "/files/a/three").code == 404
    answer = client.send("POST", "/files/delete_many", b'{"files": ["a/b/one", "http://h:1/files/a/b/two", "none"]}')
    assert list(answer.json["deleted"]) == ["a/b/one", "http://h:1/files/a/b/two"]
    assert list(answer.json["errors"]) == ["none"]
    assert [p.name for p in client.server.settings.files_dir.iterdir()] == [".incoming"]


def test_a_list_of_files_to_delete_does_not_fill_the_memory(client: Client) -> None:
    assert client.send("POST", "/files/delete_many", b" " * (8 * 2**20 + 1)).code == 413


def test_a_file_in_the_way_of_a_folder_is_refused(client: Client) -> None:
    upload(client, "/a", b"file")
    assert upload(client, "/a/b", b"x").code == 409
    assert upload(client, "/c/d", b"x").code == 200
    assert upload(client, "/c", b"x").code == 409


def test_files_need_the_same_credentials_as_calls(client: Client) -> None:
    upload(client, "/a", b"secret")
    client.authorization = ""
    assert upload(client, "/b", b"x").code == 401
    assert client.send("GET", "/files/a").code == 401
    assert client.send("DELETE", "/files/a").code == 401


def test_what_is_not_a_form_is_refused(client: Client) -> None:
    assert client.send("POST", "/files", b"x", {"content-type": "text/plain"}).code == 400
    assert client.send("PATCH", "/files/a").code == 405


def test_two_who_delete_the_last_files_of_a_folder_at_once_are_both_served(client: Client, monkeypatch) -> None:
    upload(client, "/a/b/one", b"1")
    unlink = Path.unlink

    def unlink_as_the_slower_one(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        path.parent.rmdir()

    monkeypatch.setattr(Path, "unlink", unlink_as_the_slower_one)
    assert client.send("DELETE", "/files/a/b/one").code == 200


def test_a_file_is_stored_although_its_folder_is_just_taken_away_with_its_last_one(client: Client, monkeypatch) -> None:
    mkdir, taken = Path.mkdir, list[Path]()

    def mkdir_and_lose_it(path: Path, *how: object, **more: object) -> None:
        mkdir(path, *how, **more)  # type: ignore[arg-type]
        if path.name == "b" and not taken:
            taken.append(path)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", mkdir_and_lose_it)
    assert upload(client, "/a/b/one", b"1").code == 200
    assert len(taken) == 1
    assert client.send("GET", "/files/a/b/one").body == b"1"
