"""Sends what is in `smuggling` to a gateway in front of a bare socket, and judges what came of it.

The promise: the gateway refuses, or its provider sees exactly one request whose framing no reader can
doubt; and the next request on the same connection is never taken for a part of the one before."""

import concurrent.futures
import functools
import socket
import ssl
import time
import urllib.parse

PATIENCE = 0.4


@functools.cache
def trusting(*speaks):
    """TLS that asks for nobody's name: who is trusted is tested elsewhere. `speaks`: ALPN."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if speaks:
        context.set_alpn_protocols(speaks)
    return context


def dial(url, seconds=10):
    """A bare connection."""
    where = urllib.parse.urlsplit(url)
    return socket.create_connection((where.hostname, where.port), timeout=seconds)


def connect(url, seconds=10, speaks=("http/1.1",)):
    """A connection, after its handshake where the address is one of TLS."""
    connection = dial(url, seconds)
    return trusting(*speaks).wrap_socket(connection) if url.startswith("https:") else connection


def length_of(head):
    """The Content-Length of a head, if it has one."""
    fields = [line.lower().partition(b":") for line in head.split(b"\r\n")[1:]]
    lengths = [value.strip() for name, _, value in fields if name == b"content-length"]
    return int(lengths[0]) if lengths else None


def answers(data, final=False, bodiless=False):
    """Status and body of each answer in some bytes; a rest that is no answer comes as status 0. The
    first may have none at all: it answers HEAD."""
    found = []
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.") or not end:
            return found + [(0, data)] if final or not b"HTTP/1.".startswith(data[:7]) else found
        status = int(head.split()[1])
        length = length_of(head)
        if bodiless and not found:
            length = 0
        if length is None:
            length = 0 if status < 200 else len(rest)
        if len(rest) < length:
            return found + [(status, None)] if final else found
        if status >= 200:
            found.append((status, rest[:length]))
        data = rest[length:]
    return found


def receive(connection, enough, patience=PATIENCE):
    """Bytes until `enough(bytes)`, the end, or no more patience; and whether the end came."""
    connection.settimeout(patience)
    data = b""
    try:
        while not enough(data):
            chunk = connection.recv(65536)
            if not chunk:
                return data, True
            data += chunk
    except TimeoutError:
        return data, False
    except OSError:
        return data, True
    return data, False


def one(url, number, data, paths):
    """Sends a case and then an innocent request on the same connection; gives their answers."""
    connection = connect(url)
    case, probe, hidden = (path % number for path in paths)
    if paths == OPERATORS and data.startswith(b"POST"):
        case += b"/cancel"
    data = data.replace(b"~~", case).replace(b"/raw/smuggled", hidden)
    head = data.startswith(b"HEAD")
    try:
        connection.sendall(data)
    except OSError:
        pass
    first, ended = receive(connection, lambda data: answers(data, bodiless=head))
    second = b""
    if not ended:
        try:
            connection.sendall(b"GET " + probe + b" HTTP/1.1\r\nHost: x.localhost\r\n\r\n")
            before = len(answers(first, bodiless=head))
            second, ended = receive(connection, lambda data: len(answers(first + data, bodiless=head)) > before)
        except OSError:
            pass
    connection.close()
    return answers(first + second, True, head)


def judge(number, found, provider):
    """(what became of it, what is wrong with that or None)."""
    case, probe, smuggled = (b"/%s%04d" % (name, number) for name in (b"case", b"probe", b"smug"))
    came = [request for request in provider.requests if case in request[2]]
    probes = [request for request in provider.requests if request[2] == probe]
    wrong = None
    if any(smuggled in request[2] for request in provider.requests):
        wrong = "the hidden request reached the provider"
    elif any(case in data for data, _ in provider.malformed):
        wrong = next(why for data, why in provider.malformed if case in data)
    elif any(smuggled in line for request in probes for _, line in request[3]):
        wrong = "the next request was taken for a part of it"
    elif len(came) > 1:
        wrong = "it came twice"
    elif any(status == 0 for status, _ in found):
        wrong = "what came back is no answer"
    elif found and found[0][1] is None:
        wrong = "its answer did not come to its end"
    elif came and found and found[0][0] < 400 and case not in (found[0][1] or b"") and came[0][1] != b"HEAD":
        wrong = "its answer is another's"
    elif probes and (len(found) < 2 or probe not in (found[-1][1] or b"")):
        wrong = "the next request's answer is another's"
    if found and found[0][0] >= 400:
        became = f"refused: {found[0][0]}"
    elif came and found:
        became = "one request"
        if not probes:
            became += ", then closed"
    else:
        became = "no answer" if not found else f"answered by the gateway: {found[0][0]}"
    return became, wrong


def echo(request):
    """Tells what came, so that an answer cannot be taken for another's."""
    method, target, _, body = request
    if target == b"/slow":
        time.sleep(0.5)
    said = b"" if method == b"HEAD" else target + b" " + str(len(body)).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(said) + said


# A case's own path, that of the request behind it, and that of the hidden one, which is as long as the
# one it stands for.
CALLERS = b"/raw/case%04d", b"/raw/probe%04d", b"/raw/smug%04d"
# No job has such a name, and the answer says which it was.
OPERATORS = b"/api/jobs/case%04d", b"/api/jobs/probe%04d", b"/api/jobs/%03d"


def sent(url, cases, paths):
    """The answers to each case."""
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda item: one(url, item[0], item[1][2], paths), enumerate(cases)))


def run(url, provider, cases):
    """Each case with what became of it: (group, name, became, wrong)."""
    cases = list(cases)
    found = sent(url, cases, CALLERS)
    told = []
    for number, (group, name, _) in enumerate(cases):
        told.append((group, name, *judge(number, found[number], provider)))
    return told


def judge_own(number, found, head):
    """The same of a listener that answers by itself."""
    case, probe, hidden = (b"`%s`" % path.rpartition(b"/")[2] % number for path in OPERATORS)
    bodies = [body or b"" for _, body in found]
    wrong = None
    if any(hidden in body for body in bodies):
        wrong = "the hidden request was answered"
    elif any(status == 0 for status, _ in found):
        wrong = "what came back is no answer"
    elif any(body is None for _, body in found):
        wrong = "its answer did not come to its end"
    elif sum(case in body for body in bodies) > 1:
        wrong = "it was answered twice"
    elif len(found) > 1 and probe not in bodies[1]:
        wrong = "the next request's answer is another's"
    elif len(found) > 2:
        wrong = "there were more answers than requests"
    if not found:
        return "no answer", wrong
    if not (case in bodies[0] or head and found[0][0] == 404):
        return f"refused: {found[0][0]}", wrong
    return "one request" if len(found) > 1 else "one request, then closed", wrong


def run_own(url, cases):
    """As `run`, of operators' listener."""
    cases = list(cases)
    found = sent(url, cases, OPERATORS)
    judged = [judge_own(number, found[number], data.startswith(b"HEAD")) for number, (_, _, data) in enumerate(cases)]
    return [(group, name, *what) for (group, name, _), what in zip(cases, judged)]
