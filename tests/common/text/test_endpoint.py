"""The endpoint encoder against a server of our own."""

import json
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest
from urllib3 import HTTPResponse

from common.errors import UserError
from common.text.cache import text_vectors
from common.text.endpoint import EndpointEncoder

KEY = 'sk-"quoted"/0123456789'
TEXTS = ["red printer ink", "paper", "a long black cable for the red printer", "ink ink"]

ODD: dict[str, object] = {"ragged": [1.0], "null": None, "base64": "AACAPw==", "scalar": 1.0}


class Server(ThreadingHTTPServer):
    mode = "well"
    asked = 0


class Endpoint(BaseHTTPRequestHandler):
    """Answers vectors of text length; behaves as the server's ``mode`` says."""

    def do_POST(self) -> None:
        server = cast(Server, self.server)
        server.asked += 1
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if server.mode == "busy once" and server.asked == 1:
            return self.send_error(503)
        if server.mode == "refuse":
            return self.send_error(401)
        if server.mode == "echo":
            return self.repeat(self.headers["Authorization"])
        rows = [{"index": i, "embedding": [float(len(text)), 1.0]} for i, text in enumerate(body["input"])]
        if server.mode in ODD:
            rows[-1]["embedding"] = ODD[server.mode]
        if server.mode == "missing":
            del rows[-1]["embedding"]
        if server.mode == "empty":
            rows = [{**row, "embedding": []} for row in rows]
        kept = rows[: len(rows) // 2] if server.mode == "half" else rows[::-1]
        if server.mode == "twice":
            rows[1]["index"] = 0
        if server.mode == "wider later" and server.asked > 1:
            kept = [{**row, "embedding": [1.0, 2.0, 3.0]} for row in kept]
        failed = {"error": {"message": "no such model"}}
        answer = json.dumps(failed if server.mode in ("error", "bad request") else {"data": kept}).encode()
        self.send_response(400 if server.mode == "bad request" else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        return None

    def repeat(self, sent: str) -> None:
        """Refuses, and says what it was sent behind so many words that a short message would end in the key."""
        answer = json.dumps({"error": f"{'no ' * 90}{sent}"}).replace("/", "\\/").encode()
        self.send_response(401, f"wrong {sent}")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("mode", ["well", "busy once"])
def test_endpoint_is_asked_in_batches_and_again_when_busy(endpoint: Server, mode: str) -> None:
    endpoint.mode = mode
    vectors = EndpointEncoder("m", batch_size=3, backoff=0.0).encode(TEXTS)
    assert vectors[:, 0].tolist() == [len(text) for text in TEXTS]
    assert endpoint.asked == (2 if mode == "well" else 3)


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("refuse", "401"),
        ("half", "answered 2 vectors for 4 texts"),
        ("twice", r"more than one of index \[0\], none of index \[1\]"),
    ],
)
def test_endpoint_that_fails_is_a_clear_error(endpoint: Server, mode: str, says: str) -> None:
    endpoint.mode = mode
    with pytest.raises(UserError, match=says):
        EndpointEncoder("m", backoff=0.0).encode(TEXTS)


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
