"""The unit for systemd is one that systemd takes, and it shuts the gateway in."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def unit(tmp_path):
    text = (ROOT / "config/shunt.service").read_text()
    file = tmp_path / "shunt.service"
    # Verified with a program that is there.
    file.write_text(text.replace("/usr/local/bin/shunt ", "/bin/true "))
    return file


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


def test_systemd_takes_the_unit_without_a_word(unit):
    told = analyze("verify", str(unit))
    assert (told.returncode, told.stdout + told.stderr) == (0, "")
    # It does find what is wrong.
    unit.write_text(unit.read_text() + "\n[Service]\nNoSuchKey=1\n")
    assert "NoSuchKey" in analyze("verify", str(unit)).stderr


def test_the_unit_leaves_a_broken_gateway_little(unit):
    told = analyze("security", "--offline=true", "--threshold=20", str(unit))
    assert told.returncode == 0, told.stdout[-2000:]


def test_a_stop_waits_longer_than_the_gateway_drains():
    stop = int(re.search(r"^TimeoutStopSec=(\d+)s", (ROOT / "config/shunt.service").read_text(), re.M)[1])
    drain = int(re.search(r'^drain *= "(\d+)s"', (ROOT / "config/reference.toml").read_text(), re.M)[1])
    assert stop > drain
