"""A provider on a bare socket: it keeps each byte, reads requests as strictly as RFC 9112 allows, and
answers with bytes that a test chooses."""

import re
import socket
import threading
import time

from conftest import start

TOKEN = re.compile(rb"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
TARGET = re.compile(rb"^[!-~]+$")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Malformed(Exception):
    pass


def parse(data):
    """The first request of some bytes: (request, bytes left); None while it is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = data[:end].split(b"\r\n")
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise Malformed("a bare CR, LF or NUL in the head")
    words = lines[0].split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1" or not TOKEN.match(words[0]) or not TARGET.match(words[1]):
        raise Malformed(f"the request line {lines[0]!r}")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name):
            raise Malformed(f"the line {line!r}")
        headers.append((name.lower(), value.strip(b" \t")))
    of = lambda wanted: [value for name, value in headers if name == wanted]
    lengths, codings = of(b"content-length"), of(b"transfer-encoding")
    if len(of(b"host")) != 1:
        raise Malformed("not one Host")
    alike = {re.sub(rb"[^a-z]", b"", name): name for name, _ in headers}
    for name in (b"content-length", b"transfer-encoding"):
        if alike.get(name.replace(b"-", b""), name) != name:
            raise Malformed(f"a header that some take for {name!r}")
    if (lengths and codings) or len(lengths) > 1 or len(codings) > 1:
        raise Malformed("an ambiguous length")
    rest = data[end + 4 :]
    if codings:
        if codings != [b"chunked"]:
            raise Malformed("another coding than chunked")
        found = chunked(rest)
        if found is None:
            return None
        body, rest = found
    else:
        if lengths and not re.match(rb"^[0-9]+$", lengths[0]):
            raise Malformed("a length that is no number")
        length = int(lengths[0]) if lengths else 0
        if len(rest) < length:
            return None
        body, rest = rest[:length], rest[length:]
    return (words[0], words[1], headers, body), rest


def chunked(data):
    body = b""
    while True:
        line, found, data = data.partition(b"\r\n")
        if not found:
            return None
        if not re.match(rb"^[0-9A-Fa-f]{1,8}$", line):
            raise Malformed(f"the chunk line {line!r}")
        size = int(line, 16)
        if size == 0:
            break
        if len(data) < size + 2:
            return None
        if data[size : size + 2] != b"\r\n":
            raise Malformed("a chunk that does not end")
        body, data = body + data[:size], data[size + 2 :]
    while True:
        line, found, data = data.partition(b"\r\n")
        if not found:
            return None
        if not line:
            return body, data
        if not TOKEN.match(line.partition(b":")[0]):
            raise Malformed("a trailer")


class Listening:
    """A bare socket, each connection to which is served by a thread of its own."""

    def __init__(self, backlog):
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection, self.connections), daemon=True).start()

    def close(self):
        self.listener.close()


class RawProvider(Listening):
    """`answers` gives the bytes to answer a request with, or several parts of it and, as numbers, the
    seconds to wait between them; an empty one closes the connection."""

    def __init__(self, answers=lambda request: OK):
        self.answers, self.requests, self.malformed, self.unfinished = answers, [], [], []
        super().__init__(512)

    def serve(self, connection, number):
        data = b""
        try:
            while True:
                while data and (found := parse(data)):
                    request, data = found
                    self.requests.append((number, *request))
                    answer = self.answers(request)
                    for part in [answer] if isinstance(answer, bytes) else answer:
                        if isinstance(part, bytes):
                            connection.sendall(part)
                        else:
                            time.sleep(part)
                        if part == b"" or isinstance(part, bytes) and b"x-then: close" in part:
                            return
                chunk = connection.recv(65536)
                if not chunk:
                    break
                data += chunk
        except Malformed as why:
            self.malformed.append((data, str(why)))
        except OSError:
            pass
        finally:
            if data:
                self.unfinished.append(data)
            connection.close()


def gateway(folder, provider, more="", listen=""):
    """A gateway with one worker, and so one pool, in front of a bare socket."""
    config = folder / "shunt.toml"
    config.write_text(f"""
[listen]
public = "127.0.0.1:0"
admin  = "127.0.0.1:0"
{listen}
[server]
workers = 1
[providers.raw]
base_url = "{provider.url}"
[cold]
store = "sqlite:{folder}/jobs.db"
{more}
""")
    return start(["serve", "--config", str(config)], "public", "admin")
