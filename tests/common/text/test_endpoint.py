"""The endpoint encoder against a server of our own."""

import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from urllib3 import HTTPResponse

from common.errors import UserError
from common.text.cache import text_vectors
from common.text.endpoint import EndpointEncoder
from tests.fixtures.endpoint import ODD, Server, serve_embeddings

KEY = 'sk-"quoted"/0123456789'
TEXTS = ["red printer ink", "paper", "a long black cable for the red printer", "ink ink"]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serve_embeddings() as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield server


@pytest.mark.parametrize("mode", ["well", "busy once", "broken once"])
def test_endpoint_is_asked_in_batches_and_again_when_busy_or_cut_off(endpoint: Server, mode: str) -> None:
    endpoint.mode = mode
    vectors = EndpointEncoder("m", batch_size=3, backoff=0.0).encode(TEXTS)
    assert vectors[:, 0].tolist() == [len(text) for text in TEXTS]
    assert endpoint.asked == (2 if mode == "well" else 3)


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("refuse", "401"),
        ("half", "answered 2 vectors for 4 texts: none of index 2, 3\\."),
        ("twice", "more than one of index 0, none of index 1\\."),
    ],
)
def test_endpoint_that_fails_is_a_clear_error(endpoint: Server, mode: str, says: str) -> None:
    endpoint.mode = mode
    with pytest.raises(UserError, match=says):
        EndpointEncoder("m", backoff=0.0).encode(TEXTS)


@pytest.mark.parametrize(("mode", "asked"), [("half later", 2), ("busy", 6), ("broken", 6), ("refuse", 1)])
def test_of_an_endpoint_that_fails_nothing_is_kept(endpoint: Server, tmp_path: Path, mode: str, asked: int) -> None:
    endpoint.mode = mode
    with pytest.raises(UserError, match="nothing was cached"):
        text_vectors(EndpointEncoder("m", batch_size=2, backoff=0.0), TEXTS, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert endpoint.asked == asked


@pytest.mark.parametrize(("wished", "waits"), [("3", 3), ("21600", 60), (None, None)])
def test_a_server_that_wishes_a_pause_gets_a_minute_at_most(wished: str | None, waits: float | None) -> None:
    answer = HTTPResponse(status=429, headers={"Retry-After": wished} if wished else {})
    assert EndpointEncoder("m").retry.new().get_retry_after(answer) == waits


@pytest.mark.parametrize("key", [None, "", " \r\n"])
def test_endpoint_needs_a_key(endpoint: Server, monkeypatch: pytest.MonkeyPatch, key: str | None) -> None:
    monkeypatch.delenv("OPENAI_API_KEY") if key is None else monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="OPENAI_API_KEY is unset"):
        EndpointEncoder("m").encode(TEXTS)


def test_white_space_around_a_key_is_no_part_of_it(endpoint: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\r\n")
    endpoint.mode = "echo"
    assert KEY not in told(EndpointEncoder("m", backoff=0.0))
    endpoint.mode = "well"
    assert len(EndpointEncoder("m").encode(TEXTS)) == len(TEXTS)


def test_a_login_of_netrc_does_not_replace_the_key(
    endpoint: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logins = tmp_path / "netrc"
    logins.write_text("default login bob password hunter2\n")
    logins.chmod(0o600)
    monkeypatch.setenv("NETRC", str(logins))
    EndpointEncoder("m").encode(TEXTS)
    assert endpoint.login == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["\u00e4sk-Zq9", "sk\r-Zq9", "sk\n-Zq9", "\u201csk-Zq9\u201d"])
def test_a_key_that_no_header_may_carry_is_refused_unseen(
    endpoint: Server, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    message = told(EndpointEncoder("m"))
    assert "OPENAI_API_KEY holds a character" in message
    assert "Zq9" not in message
    assert endpoint.asked == 0


@pytest.mark.parametrize("login", ["", "me:pass%2Fword@"])
def test_what_a_server_repeats_of_key_and_password_is_not_passed_on(endpoint: Server, login: str) -> None:
    endpoint.mode = "echo"
    encoder = EndpointEncoder("m", f"http://{login}127.0.0.1:{endpoint.server_port}/v1", backoff=0.0)
    message = told(encoder)
    assert "401" in message
    assert "no no" in message
    secret = "bWU6cGFzcy93b3Jk" if login else "0123456789"
    assert not [word for word in (secret, secret[:8], "pass/word", "pass%2Fword") if word in message]


def test_a_password_in_the_url_is_sent_and_never_stored(endpoint: Server, tmp_path: Path) -> None:
    encoder = EndpointEncoder("m", f"http://me:password@127.0.0.1:{endpoint.server_port}/v1/")
    assert encoder.identity["url"] == f"http://127.0.0.1:{endpoint.server_port}/v1"
    text_vectors(encoder, TEXTS, tmp_path)
    (entry,) = tmp_path.iterdir()
    assert b"127.0.0.1" in entry.read_bytes()
    assert not [word for word in (b"password", KEY.encode()) if word in entry.read_bytes()]


@pytest.mark.parametrize("url", ["me:password@host/v1", "ftp://me:password@host", "http://", "http://[me:password"])
def test_an_address_that_is_none_is_refused_unseen(url: str) -> None:
    with pytest.raises(UserError, match="OPENAI_BASE_URL is not a valid URL") as caught:
        EndpointEncoder("m", url)
    assert "password" not in "".join(traceback.format_exception(caught.value)).partition("UserError: ")[2]


def told(encoder: EndpointEncoder) -> str:
    """All that the failure of ``encoder`` would print, traceback and causes included."""
    with pytest.raises(UserError) as caught:
        encoder.encode(TEXTS)
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("mode", [*ODD, "missing"])
def test_what_is_no_vector_is_a_clear_error(endpoint: Server, mode: str) -> None:
    endpoint.mode = mode
    with pytest.raises(UserError, match="something other than vectors of one width"):
        EndpointEncoder("m", backoff=0.0).encode(TEXTS)


def test_vectors_without_numbers_are_refused_and_not_cached(endpoint: Server, tmp_path: Path) -> None:
    endpoint.mode = "empty"
    with pytest.raises(UserError, match="width 0"):
        text_vectors(EndpointEncoder("m", backoff=0.0), TEXTS, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "says"),
    [("error", "no such model"), ("bad request", "no such model"), ("wider later", "of 2 and of 3 numbers")],
)
def test_what_the_endpoint_says_of_a_failure_is_passed_on(endpoint: Server, mode: str, says: str) -> None:
    endpoint.mode = mode
    with pytest.raises(UserError, match=says):
        EndpointEncoder("m", batch_size=2, backoff=0.0).encode(TEXTS)
