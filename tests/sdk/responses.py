"""What a provider may send to confuse a proxy about where its answer ends, and whose it is.

Each is (name, method of the call, bytes after its request, or parts with waits). `EVIL` is never any caller's answer."""

EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-evil: 1\r\n\r\nevil"
TE = b"transfer-encoding: chunked\r\n"


def ok(lines=b"", body=b"ok", status=b"200 OK"):
    return b"HTTP/1.1 " + status + b"\r\n" + lines + b"\r\n" + body


CASES = [
    ("extra bytes after the length", "GET", ok(b"content-length: 2\r\n") + b"EXTRA"),
    ("a second answer after the length", "GET", ok(b"content-length: 2\r\n") + EVIL),
    ("a second answer after the last chunk", "GET", ok(TE, b"2\r\nok\r\n0\r\n\r\n") + EVIL),
    ("a second answer after 204", "GET", ok(status=b"204 No Content", body=b"") + EVIL),
    ("a second answer after 304", "GET", ok(status=b"304 Not Modified", body=b"") + EVIL),
    ("a second answer after the answer to HEAD", "HEAD", ok(b"content-length: 2\r\n", b"") + EVIL),
    ("a body after the answer to HEAD", "HEAD", ok(b"content-length: 2\r\n")),
    ("204 with a length and a body", "GET", ok(b"content-length: 4\r\n", b"evil", b"204 No Content")),
    ("length and coding", "GET", ok(b"content-length: 2\r\n" + TE, b"2\r\nok\r\n0\r\n\r\n") + EVIL),
    ("coding and length", "GET", ok(TE + b"content-length: 60\r\n", b"2\r\nok\r\n0\r\n\r\n") + EVIL),
    ("lengths that differ", "GET", ok(b"content-length: 2\r\ncontent-length: 70\r\n") + EVIL),
    ("lengths that are the same", "GET", ok(b"content-length: 2\r\ncontent-length: 2\r\n")),
    ("a list of lengths", "GET", ok(b"content-length: 2, 70\r\n") + EVIL),
    ("length -1", "GET", ok(b"content-length: -1\r\n") + EVIL),
    ("length +2", "GET", ok(b"content-length: +2\r\n") + EVIL),
    ("length 0x2", "GET", ok(b"content-length: 0x2\r\n") + EVIL),
    ("length 2^64 + 2", "GET", ok(b"content-length: 18446744073709551618\r\n") + EVIL),
    ("length longer than what comes", "GET", ok(b"content-length: 9\r\nx-then: close\r\n")),
    ("chunks that do not end", "GET", ok(TE + b"x-then: close\r\n", b"2\r\nok\r\n")),
    ("chunk size that overflows", "GET", ok(TE + b"x-then: close\r\n", b"10000000000000002\r\nok\r\n0\r\n\r\n")),
    ("chunk size that is no number", "GET", ok(TE + b"x-then: close\r\n", b"zz\r\nok\r\n0\r\n\r\n")),
    ("coding xchunked", "GET", ok(b"transfer-encoding: xchunked\r\nx-then: close\r\n", b"2\r\nok\r\n0\r\n\r\n")),
    ("coding gzip, chunked", "GET", ok(b"transfer-encoding: gzip, chunked\r\n", b"2\r\nok\r\n0\r\n\r\n")),
    ("folded line", "GET", ok(b"x: a\r\n b\r\ncontent-length: 2\r\n")),
    ("space before the colon", "GET", ok(b"x : a\r\ncontent-length: 2\r\n")),
    ("bare CR in a value", "GET", ok(b"x: a\rb\r\ncontent-length: 2\r\n")),
    ("NUL in a value", "GET", ok(b"x: a\0b\r\ncontent-length: 2\r\n")),
    ("bare CR in the reason", "GET", ok(b"content-length: 2\r\n", status=b"200 O\rK")),
    ("LF only", "GET", ok(b"content-length: 2\r\n").replace(b"\r\n", b"\n")),
    ("no status line", "GET", b"<html>evil</html>"),
    ("HTTP/0.9", "GET", b"evil\r\n\r\nx-then: close"),
    ("HTTP/2.0 in the line", "GET", ok(b"content-length: 2\r\n").replace(b"HTTP/1.1", b"HTTP/2.0")),
    ("ICY", "GET", b"ICY 200 OK\r\n\r\nevil"),
    ("status 99", "GET", ok(b"content-length: 2\r\n", status=b"99 X")),
    ("status 1000", "GET", ok(b"content-length: 2\r\n", status=b"1000 X")),
    ("status 2000", "GET", ok(b"content-length: 2\r\n", status=b"2xx X")),
    ("101 that nobody asked for", "GET", ok(b"connection: upgrade\r\nupgrade: evil\r\n", EVIL, b"101 Switching Protocols")),
    ("1,000 times 100 in front", "GET", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000 + ok(b"content-length: 2\r\n")),
    ("103 in front", "GET", b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + ok(b"content-length: 2\r\n")),
    ("103 with a length in front", "GET", b"HTTP/1.1 103 Early Hints\r\ncontent-length: 70\r\n\r\n" + ok(b"content-length: 2\r\n")),
    ("10,000 header lines", "GET", ok(b"x: y\r\n" * 10_000 + b"content-length: 2\r\n")),
    ("1 MiB of head", "GET", ok(b"x: " + b"y" * (1 << 20) + b"\r\ncontent-length: 2\r\n")),
    ("hop-by-hop lines", "GET", ok(b"connection: close, x-secret\r\nx-secret: evil\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n")),
    ("300 header lines", "GET", ok(b"x: y\r\n" * 300 + b"content-length: 2\r\n")),
    ("a header of 64 KiB", "GET", ok(b"x: " + b"y" * (64 << 10) + b"\r\ncontent-length: 2\r\n")),
    ("a head without an end", "GET", [b"HTTP/1.1 200 OK\r\n", *[b"x: y\r\n" * 1_000] * 2_000]),
    ("a head byte by byte", "GET", [b"HTTP/1.1 200 OK\r\n", *[b"x", 0.1] * 15, b""]),
    ("103 without an end", "GET", [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, 0.01] * 150),
    ("closes before its head", "GET", [b""]),
    ("closes in its head", "GET", [b"HTTP/1.1 200 OK\r\ncontent-le", b""]),
    ("chunks byte by byte, and silence", "GET", [ok(TE, b""), *[b"1\r\no\r\n", 0.1] * 5, 2, b""]),
    ("a chunk's extension without an end", "GET", [ok(TE, b"1;"), 0.3, *[b"a" * 10_000] * 200]),
    ("trailers without an end", "GET", [ok(TE, b"2\r\nok\r\n0\r\n"), *[b"x: y\r\n" * 1_000] * 200]),
    ("204 with chunks", "GET", ok(TE, b"4\r\nevil\r\n0\r\n\r\n", b"204 No Content")),
    ("304 with a length and a body", "GET", ok(b"content-length: 4\r\n", b"evil", b"304 Not Modified")),
    ("gzip that is none", "GET", ok(b"content-encoding: gzip\r\ncontent-length: 2\r\n")),
    ("a second answer while the connection is idle", "GET", [ok(b"content-length: 2\r\n"), 0.2, EVIL]),
]
