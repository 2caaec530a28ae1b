"""`shunt demo`: what a newcomer runs first names the page, shows each promise once, and fits a terminal."""

import json
import pathlib
import re
import subprocess
import urllib.request

import pexpect
from conftest import SHUNT

FIRSTS = ["first hedged call", "first demoted call", "first verified callback"]
LINE = re.compile(r"p99 straight [\d.]+ s, Shunt [\d.]+ s \| hedged \d+ \| jobs \d+ \| callbacks \d+")


def test_in_a_pipe_it_says_whole_lines_names_the_page_first_and_fills_it_and_ends_by_itself():
    process = subprocess.Popen([SHUNT, "demo", "--seconds", "8"], stdout=subprocess.PIPE, text=True)
    try:
        page = re.fullmatch(r"  page      (http://127\.0\.0\.1:\d+)/\n", process.stdout.readline())[1]
        assert process.stdout.readline() == f"  terminal  shunt top --admin {page}\n"
        assert process.stdout.readline() == f"  metrics   {page}/metrics\n"
        said = ""
        while "verified callback" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        assert b"<html" in urllib.request.urlopen(page + "/", timeout=10).read()
        live = json.load(urllib.request.urlopen(page + "/api/live?once=true", timeout=10))
        route = next(one for one in live["routes"] if one["name"] == "chat")
        streams, all = route["first_token"]["1m"]["count"], route["duration"]["1m"]["count"]
        assert 0.2 < streams / all < 0.45, "a third of the calls are streams"
        calls = pathlib.Path(re.search(r"^  calls +(.*)$", said, re.M)[1])
        assert json.loads(calls.read_text().splitlines()[0])["route"] == "chat"
        said += process.communicate(timeout=40)[0]
    finally:
        process.kill()
    assert process.returncode == 0
    for first in FIRSTS:
        assert len(re.findall(rf"^{first} after \d+\.\d s$", said, re.M)) == 1, said
    assert "\r" not in said and 1 <= len(LINE.findall(said)) <= 4, said
    assert "failed calls 0," in said and "refused 0" in said, said
    assert all_fits(said), said


def test_a_sigterm_ends_it_too_and_its_folder_is_its_user_s_alone_and_gone_then():
    process = subprocess.Popen([SHUNT, "demo"], stdout=subprocess.PIPE, text=True)
    try:
        while not (found := re.match(r"  calls +(.*)$", process.stdout.readline())):
            assert process.poll() is None
        folder = pathlib.Path(found[1]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        process.terminate()
        process.communicate(timeout=40)
    finally:
        process.kill()
    assert process.returncode == 0
    assert not folder.exists()


def all_fits(said):
    """But for a path, which is as long as the system has it."""
    lines = re.split(r"[\r\n]+", said.replace("\x1b[K", ""))
    return all(len(line) < 80 for line in lines if not line.startswith("  calls "))


def test_on_a_terminal_of_80_columns_nothing_wraps_and_ctrl_c_ends_it():
    child = pexpect.spawn(SHUNT, ["demo"], dimensions=(24, 80), timeout=20, encoding="utf-8")
    try:
        child.expect("Ctrl-C ends it")
        said = child.before
        child.expect("first hedged call after")
        said += child.before
        child.expect(LINE)
        said += child.before + child.after
        child.sendintr()
        child.expect(pexpect.EOF)
        said += child.before
        child.close()
        assert child.exitstatus == 0
        assert all_fits(said) and "through Shunt" in said, said
    finally:
        child.close(force=True)
