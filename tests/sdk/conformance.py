"""docs/conformance.md: what the batteries found, kept equal to their runs.

Its parts stand between `<!-- NAME -->` and `<!-- end -->`. A run with SHUNT_CONFORMANCE=write writes
them; else a run that finds otherwise than the document fails."""

import os
import re

from conftest import ROOT

DOCUMENT = ROOT / "docs" / "conformance.md"


def table(told, note=None):
    lines, group = ([note] if note else []), None
    for one, name, became, wrong in told:
        if one != group:
            group = one
            lines += ["", f"### {group}", "", "| case | result |", "| --- | --- |"]
        became = f"**fails**: {wrong}" if wrong else became
        lines.append(f"| {name.replace('|', '&#124;')} | {became} |")
    fails = sum(1 for *_, wrong in told if wrong)
    return "\n".join([*([] if note else [f"{len(told)} cases, {fails} fail."]), *lines])


def compare(part, told, note=None):
    text = DOCUMENT.read_text()
    between = re.compile(rf"(<!-- {part} -->\n)(.*?)(\n<!-- end -->)", re.S)
    found = between.search(text)
    assert found, f"docs/conformance.md has no part {part}"
    now = table(told, note)
    if os.environ.get("SHUNT_CONFORMANCE") == "write":
        DOCUMENT.write_text(between.sub(lambda match: match[1] + now + match[3], text))
        return
    said, ran = set(found[2].splitlines()), set(now.splitlines())
    assert said == ran, f"only in the document: {sorted(said - ran)}; only in the run: {sorted(ran - said)}"
