"""The proxies that are compared, each as a command on one core, and what they are made of."""

import os
import pathlib
import secrets
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = ROOT / ".cache" / "compare"
UPSTREAM, PROXY = 18000, 18080
PORTKEY, LITELLM = "1.15.2", "1.106.0"
DEBIAN = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "valgrind": "valgrind"}


def need(command):
    """Installs a Debian package when its command is missing."""
    if shutil.which(command):
        return
    print(f"compare: installing {DEBIAN[command]}", file=sys.stderr)
    sudo = [] if os.getuid() == 0 else ["sudo", "-n"]
    subprocess.run([*sudo, "apt-get", "update", "-q"], stdout=subprocess.DEVNULL)
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", DEBIAN[command]]
    subprocess.run([*sudo, "env", "DEBIAN_FRONTEND=noninteractive", *install], stdout=subprocess.DEVNULL)
    if not shutil.which(command):
        sys.exit(f"compare: {command} is missing; install the Debian package {DEBIAN[command]}")


def build():
    """Shunt and the tools, as released. SHUNT and PEERS name programs that are there already."""
    shunt, peers = os.environ.get("SHUNT"), os.environ.get("PEERS")
    if not shunt:
        subprocess.run(["cargo", "build", "--quiet", "--release"], cwd=ROOT, check=True)
        shunt = ROOT / "target" / "release" / "shunt"
    if not peers:
        told = subprocess.run(
            ["cargo", "bench", "--quiet", "--no-run", "--bench", "peers", "--message-format=json"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout
        marked = [line for line in told.splitlines() if '"executable":"' in line and '"name":"peers"' in line]
        peers = marked[-1].split('"executable":"')[1].split('"')[0]
    return str(shunt), str(peers)


def answer(size):
    """A chat completion of so many bytes, which every gateway understands."""
    before = '{"id":"x","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"'
    after = '"}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
    return before + "y" * (size - len(before) - len(after)) + after


def nginx(folder, name, port, within, before=""):
    """An nginx of one process; its files stay in the folder."""
    paths = "".join(
        f"{part}_temp_path {folder}/{part};" for part in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file = folder / f"{name}.conf"
    file.write_text(
        f"daemon off; master_process off; pid {folder}/{name}.pid; error_log stderr crit;\n"
        "events { worker_connections 8192; }\n"
        f"http {{ access_log off; tcp_nodelay on; default_type application/json; {paths}\n"
        f"keepalive_requests 1000000000; keepalive_timeout 600s; client_body_buffer_size 64k; {before}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ {within} }} }} }}\n"
    )
    return ["nginx", "-e", "stderr", "-c", str(file)]


def upstream(folder, size):
    # nginx takes no string over 4 KB.
    text = answer(size)
    parts = [text[at : at + 2048] for at in range(0, size, 2048)]
    sets = "".join(f"set $p{at} '{part}'; " for at, part in enumerate(parts))
    whole = "".join(f"${{p{at}}}" for at in range(len(parts)))
    return nginx(folder, "upstream", UPSTREAM, f'{sets}return 200 "{whole}";')


def shunt_config(folder, workers=1, budget="10s", hedge="p95", floor=0.05, told=""):
    """20 routes; the one that is called is the last. `told`: further tables."""
    routes = "".join(
        f'\n[[routes]]\nname = "other-{number}"\n'
        f'match = {{ path = "/v1/chat/completions", model = "model-{number}-*" }}\n'
        'targets = ["sim", "spare"]\nhedge = { after = "auto", max_extra = 0.05 }\n'
        for number in range(19)
    )
    text = (ROOT / "loadtest" / "compare.toml").read_text()
    filled = {
        "WORKERS": workers, "ROUTES": routes, "BUDGET": budget,
        "HEDGE": hedge, "FLOOR": floor, "FOLDER": folder,
    }
    for name, value in filled.items():
        text = text.replace(f"@{name}@", str(value))
    file = folder / "shunt.toml"
    file.write_text(text + told)
    return file


def told(folder):
    """Tables that tell of every call: a line each, and traces of a tenth to the provider, which takes anything."""
    return (
        f'\n[access_log]\nformat = "json"\nfile = "{folder}/calls.log"\n'
        f'\n[traces]\nendpoint = "http://127.0.0.1:{UPSTREAM}"\nprotocol = "http"\nsample = 0.1\n'
    )


def command(name, folder, shunt, peers):
    """(command, further environment, further headers of a request)."""
    if name == "nginx":
        need("nginx")
        within = 'proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";'
        before = f"upstream up {{ server 127.0.0.1:{UPSTREAM}; keepalive 1024; }}"
        return nginx(folder, "proxy", PROXY, within, before), {}, {}
    if name == "haproxy":
        need("haproxy")
        file = folder / "haproxy.cfg"
        file.write_text(
            "global\n  nbthread 1\n  maxconn 8192\n"
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n"
            "  http-reuse always\n"
            f"frontend f\n  bind 127.0.0.1:{PROXY}\n  default_backend b\n"
            f"backend b\n  server s 127.0.0.1:{UPSTREAM}\n"
        )
        return ["haproxy", "-db", "-q", "-f", str(file)], {}, {}
    if name == "bare":
        return [peers, "bare", "--listen", f"127.0.0.1:{PROXY}", "--to", f"127.0.0.1:{UPSTREAM}"], {}, {}
    if name in ("shunt", "told"):
        tables = told(folder) if name == "told" else ""
        return [shunt, "serve", "--config", str(shunt_config(folder, told=tables))], {"SHUNT_LOG": "warn"}, {}
    if name == "portkey":
        return portkey()
    return litellm(folder)


def portkey():
    server = PARTS / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not server.exists():
        PARTS.mkdir(parents=True, exist_ok=True)
        package = f"@portkey-ai/gateway@{PORTKEY}"
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(PARTS), package]
        subprocess.run(install, check=True)
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{UPSTREAM}/v1"}
    environment = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
    return ["node", str(server), f"--port={PROXY}", "--headless"], environment, headers


def litellm(folder):
    home = PARTS / "litellm"
    if not (home / "bin" / "litellm").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "-q", f"litellm[proxy]=={LITELLM}"], check=True)
    file = folder / "litellm.yaml"
    file.write_text(
        "model_list:\n  - model_name: gpt-4o\n    litellm_params:\n      model: openai/gpt-4o\n"
        f"      api_base: http://127.0.0.1:{UPSTREAM}/v1\n      api_key: k\n"
    )
    run = [str(home / "bin" / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(PROXY)]
    # It does not start without a key of its own.
    key = "sk-" + secrets.token_hex(32)
    environment = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": key}
    return [*run, "--num_workers", "1"], environment, {"authorization": f"Bearer {key}"}
