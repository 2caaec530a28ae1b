"""A throw-away PostgreSQL, from Debian's packages; it ends with this process however that ends."""

import glob
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

# Waits for the end of its input, then stops the server and takes its folder away.
WATCH = """
trap '' INT TERM HUP; read -r _
server=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$server"
for _ in $(seq 100); do [ -e "$1/data/postmaster.pid" ] && kill -0 "$server" 2>/dev/null || break; sleep 0.05; done
rm -rf "$1"
"""


def program(name):
    """Debian keeps the server's programs off the path."""
    versions = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)
    found = (versions + [shutil.which(name)])[0]
    assert found, f"{name} is missing; install the Debian package postgresql"
    return found


def as_user(*command):
    """The server refuses to run as root."""
    if os.getuid() == 0:
        return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--", *command]
    return list(command)


class Cluster:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="shunt-pg-"))
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self.watcher = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", self.folder], stdin=subprocess.PIPE, start_new_session=True
        )
        data = str(self.folder / "data")
        made = as_user(
            program("initdb"), "-U", "shunt", "-A", "trust", "-E", "UTF8", "--no-locale", "-N", "-D", data
        )
        subprocess.run(made, check=True, capture_output=True, cwd="/")
        settings = f"listen_addresses = ''\nunix_socket_directories = '{self.folder}'\n"
        (self.folder / "data" / "postgresql.auto.conf").write_text(settings)
        self.databases = 0
        self.serve()

    def serve(self):
        with open(self.folder / "log", "w") as log:
            command = as_user(program("postgres"), "-D", str(self.folder / "data"))
            self.server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        end = time.monotonic() + 60
        while self.psql("postgres", "select 1").returncode != 0:
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)

    def kill(self):
        """As a crash would: the next start recovers."""
        subprocess.run(["kill", "-QUIT", str(self.server.pid)], check=True)
        self.server.wait()

    def psql(self, database, sql):
        command = [program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "shunt"]
        command += ["-h", str(self.folder), "-d", database, "-c", sql]
        return subprocess.run(command, capture_output=True, text=True)

    def sql(self, database, sql):
        done = self.psql(database, sql)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def database(self):
        """A new database: its name and its address."""
        self.databases += 1
        name = f"test_{self.databases}"
        self.sql("postgres", f"create database {name}")
        folder = str(self.folder).replace("/", "%2F")
        return name, f"postgres://shunt@{folder}/{name}"

    def close(self):
        # The server first: what nobody has waited for still counts as there.
        self.watcher.stdin.close()
        self.server.wait()
        self.watcher.wait()
