"""TLS with real clients: the SDK over HTTP/2, certificates that are renewed as cert-manager and
certbot do it, and `shunt jobs` against an admin listener that asks for a certificate."""

import os
import pathlib
import signal
import socket
import ssl
import subprocess
import threading

import httpx2
import openai
import pytest

from conftest import SHUNT, House, start, stop

MESSAGES = [{"role": "user", "content": "Hi"}]


class Authority:
    """Issues certificates, with OpenSSL's own tool."""

    def __init__(self, folder):
        self.folder, self.root = folder, folder / "root.pem"
        folder.mkdir(parents=True)
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                     "-nodes", "-subj", "/CN=roots of the tests", "-days", "2",
                     "-addext", "basicConstraints=critical,CA:TRUE",
                     "-keyout", "root.key", "-out", "root.pem")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def issue(self, into, name="localhost", days=2):
        """Writes cert.pem and key.pem into a folder; the certificate's serial number."""
        into.mkdir(parents=True)
        serial = int.from_bytes(os.urandom(8)) >> 1
        names = into / "names"
        names.write_text(f"subjectAltName=DNS:{name}")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                     "-subj", f"/CN={name}", "-keyout", str(into / "key.pem"), "-out", "asked.pem")
        self.openssl("x509", "-req", "-in", "asked.pem", "-CA", "root.pem", "-CAkey", "root.key",
                     "-days", str(days), "-set_serial", str(serial), "-extfile", str(names),
                     "-out", str(into / "cert.pem"))
        return serial

    def context(self):
        return ssl.create_default_context(cafile=self.root)


class Secure:
    """A gateway with TLS on both listeners; its files are reached over a link that is swapped."""

    def __init__(self, folder):
        self.folder = folder
        self.authority = Authority(folder / "authority")
        self.serial = self.authority.issue(folder / "v1")
        self.link = folder / "live"
        self.link.symlink_to("v1")
        self.authority.issue(folder / "operator", "operator")
        files = f'cert = "{self.link}/cert.pem", key = "{self.link}/key.pem"'
        admin = f'{{ {files}, client_ca = "{self.authority.root}" }}'
        tables = f"[listen]\ntls = {{ {files} }}\nadmin_tls = {admin}"
        patient = ('first_token = "1s", total = "30s", keep', 'first_token = "30s", total = "30s", keep')
        self.house = House(folder, lambda text: text.replace("[listen]", tables).replace(*patient))
        self.gateway = self.house.begin()
        self.process = self.house.processes[-1]
        self.public = self.gateway.public.replace("127.0.0.1", "localhost")
        self.admin = self.gateway.admin.replace("127.0.0.1", "localhost")

    def swap(self, name):
        """As the kubelet does it: one rename, and all files are others."""
        (self.folder / "next").symlink_to(name)
        (self.folder / "next").rename(self.link)

    def served(self):
        port = int(self.public.rsplit(":", 1)[1])
        pem = ssl.get_server_certificate(("localhost", port), ca_certs=self.authority.root)
        shown = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=pem, text=True,
                               capture_output=True, check=True)
        return int(shown.stdout.strip().split("=")[1], 16)

    def metric(self, name):
        context = self.authority.context()
        operator = self.folder / "operator"
        context.load_cert_chain(operator / "cert.pem", operator / "key.pem")
        text = httpx2.get(self.admin + "/metrics", verify=context).text
        [line] = [line for line in text.splitlines() if line.startswith(name)]
        return float(line.rsplit(" ", 1)[1])

    def client(self, http2):
        web = openai.DefaultHttpxClient(http2=http2, verify=self.authority.context())
        return openai.OpenAI(base_url=self.public + "/v1", api_key="k", http_client=web)


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    secure = Secure(tmp_path_factory.mktemp("tls"))
    yield secure
    secure.house.close()


@pytest.mark.parametrize(("http2", "version"), [(True, "HTTP/2"), (False, "HTTP/1.1")])
def test_the_sdk_gets_its_answers_over_the_protocol_that_tls_chose(secure, http2, version):
    assert secure.public.startswith("https://")
    with secure.client(http2) as client:
        ask = client.chat.completions.with_raw_response.create
        answer = ask(model="gpt-4o", messages=MESSAGES)
        assert answer.http_response.http_version == version
        assert answer.parse().choices[0].message.content
        stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def test_a_client_that_does_not_know_the_root_is_not_served(secure):
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(secure.public + "/v1/models", verify=ssl.create_default_context())


def test_a_renewed_certificate_is_served_without_a_signal_and_open_streams_go_on(secure):
    # The answer's tokens come after the files were looked at: within 10 s.
    slow = {"sim_latency_ms": "14000"}
    request = {"model": "alive-1", "messages": MESSAGES, "stream": True, "extra_body": {"metadata": slow}}
    with (
        secure.client(True) as client,
        client.chat.completions.with_streaming_response.create(**request) as stream,
    ):
        assert stream.status_code == 200
        assert secure.served() == secure.serial
        renewed = secure.authority.issue(secure.folder / "v2")
        secure.swap("v2")
        secure.gateway.until(lambda: secure.served() == renewed, seconds=13)
        assert b"[DONE]" in stream.read()
    reloads = 'shunt_tls_reloads_total{listener="public",result="%s"}'
    assert secure.metric(reloads % "ok") == 1
    # A broken pair and a signal: the old one stays, and so does the gateway.
    broken = secure.folder / "v3"
    secure.authority.issue(broken)
    (broken / "cert.pem").write_text("nothing")
    secure.swap("v3")
    secure.process.send_signal(signal.SIGHUP)
    secure.gateway.until(lambda: secure.metric(reloads % "failed") >= 1)
    assert secure.served() == renewed
    secure.swap("v2")


def test_jobs_are_shown_to_operators_with_a_certificate_only(secure):
    def jobs(*arguments, admin=secure.admin):
        command = [SHUNT, "jobs", "list", "--admin", admin, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    operator = secure.folder / "operator"
    ca = ("--ca", secure.authority.root)
    shown = ("--cert", operator / "cert.pem", "--key", operator / "key.pem")
    done = jobs(*ca, *shown)
    assert done.returncode == 0, done.stderr
    # One file may hold both.
    both = secure.folder / "operator.pem"
    both.write_bytes(b"".join((operator / name).read_bytes() for name in ("cert.pem", "key.pem")))
    assert jobs(*ca, "--cert", both).returncode == 0
    for arguments, said in (
        (ca, "CertificateRequired"),
        (shown, "UnknownIssuer"),
        ((*ca, "--cert", pathlib.Path("none.pem")), "none.pem"),
    ):
        done = jobs(*arguments)
        assert done.returncode == 1 and said in done.stderr, done.stderr
    # Another name than the certificate's.
    done = jobs(*ca, *shown, admin=secure.gateway.admin)
    assert done.returncode == 1 and "not valid for" in done.stderr, done.stderr


def test_check_warns_of_a_certificate_that_has_expired(tmp_path):
    Authority(tmp_path / "authority").issue(tmp_path / "old", days=-1)
    config = tmp_path / "shunt.toml"
    config.write_text(f"""[listen]
tls = {{ cert = "{tmp_path}/old/cert.pem", key = "{tmp_path}/old/key.pem" }}
[providers.sim]
base_url = "http://127.0.0.1:9"
""")
    done = subprocess.run([SHUNT, "check", "--config", config], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert done.stderr == f"warning: listen.tls.cert: {tmp_path}/old/cert.pem has expired\n"


def test_a_tunnel_opens_to_a_provider_that_would_rather_speak_http2(tmp_path):
    authority = Authority(tmp_path / "authority")
    authority.issue(tmp_path / "provider")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "provider" / "cert.pem", tmp_path / "provider" / "key.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    listener = socket.create_server(("127.0.0.1", 0))
    asked = []

    def serve():
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            asked.append((connection.selected_alpn_protocol(), head))
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            connection.sendall(connection.recv(4096))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    config = tmp_path / "shunt.toml"
    config.write_text(f"""[listen]
public = "127.0.0.1:0"
admin = "127.0.0.1:0"
[cold]
store = "sqlite:{tmp_path}/jobs.db"
[providers.p]
base_url = "https://localhost:{listener.getsockname()[1]}"
dialect = "openai"
ca = "{authority.root}"
warm_connections = 0
[[routes]]
name = "realtime"
match = {{ path = "/v1/realtime" }}
targets = ["p"]
""")
    process, found = start(["serve", "--config", str(config)], "public")
    host, port = found["public"].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as caller:
        caller.sendall(b"GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
        head = caller.recv(4096)
        assert head.startswith(b"HTTP/1.1 101 "), head
        caller.sendall(b"hello")
        assert caller.recv(4096) == b"hello"
    thread.join(10)
    listener.close()
    [(alpn, head)] = asked
    assert alpn == "http/1.1" and b"upgrade: websocket" in head.lower()
    stop(process)
