"""The Node SDK's checks, one process."""

import pathlib
import subprocess


def test_the_node_sdk_works_with_nothing_changed_but_its_base_url(gateway):
    script = pathlib.Path(__file__).with_name("openai.mjs")
    done = subprocess.run(
        ["node", str(script), gateway.public], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ok"
