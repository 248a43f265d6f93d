"""Requests as nobody should send them: good ones, cut, joined, repeated and with any bytes in them."""

from hypothesis import strategies as st

MUCH = b"{20 kB}"
"""Stands for 20,000 bytes, which nobody wants to see in a failure."""
WORDS = [
    b"GET ", b"HEAD ", b"POST ", b"OPTIONS ", b"CONNECT ", b"PRI ", b"/metrics", b"/health",
    b"?format=json", b"*", b"http://127.0.0.1/", b"http://rebound.example/", b"//", b"%2f", b"%", b"#",
    b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b" HTTP/9.9", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00",
    b"\xff", b"\x1b[31m", b" ", b"\t", b":", b"Host: 127.0.0.1\r\n", b"Host: rebound.example\r\n",
    b"Host: [::1]:3039\r\n", b"Host:\r\n", b"host : a\r\n", b"Accept: application/json\r\n",
    b"Accept: application/openmetrics-text; version=", b"1.0.0", b"\xb2", b"; escaping=", b"allow-utf-8",
    b"q=", b",", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: a\xffb\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n",
    b"1;a=b\r\nx\r\n", b"0\r\nTrailer: a\r\n\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Sec-Machines-Client: x/1\r\n", b"Origin: null\r\n",
    b" folded\r\n", MUCH,
]  # fmt: skip
GOOD = [
    b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: localhost:3039\r\nAccept: application/openmetrics-text\r\n\r\n",
    b"HEAD /health HTTP/1.1\r\nHost: [::1]\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"GET http://127.0.0.1/health HTTP/1.0\r\n\r\n",
]


def _splice(request: bytes, splices: list[tuple[int, int, bytes]]) -> bytes:
    for at, length, odd in splices:
        request = request[:at] + odd + request[at + length :]
    return request


_REQUEST = st.sampled_from(GOOD) | st.lists(st.sampled_from(WORDS), max_size=9).map(b"".join)
_ODD = st.sampled_from(WORDS) | st.binary(max_size=12)
_SPLICES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 8), _ODD), max_size=4)
RAW_REQUESTS = st.builds(_splice, st.lists(_REQUEST, max_size=4).map(b"".join), _SPLICES)
"""Some bytes for a server to make sense of, once `written_out`: one request, several, or none."""


def written_out(request: bytes) -> bytes:
    return request.replace(MUCH, 20_000 * b"a")
