"""The page at the admin listener's `/`, in headless Chromium: it renders under load, every control works, nothing is
loaded from elsewhere, and axe finds nothing."""

import http.client
import json
import re
import shutil
import subprocess

import pytest
from playwright.sync_api import expect, sync_playwright

from conftest import ROOT, stop, until
from scene import Scene

AXE = ROOT / "tests/sdk/node_modules/axe-core/axe.min.js"
TOKEN = "0123456789abcdef0123456789abcdef"
expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    scene = Scene(tmp_path_factory.mktemp("page"))
    scene.begin()
    with scene.load():
        until(lambda: "chat" in json.dumps(scene.snapshot()["jobs"]) and scene.snapshot()["jobs"]["dead_callbacks"] > 2, 40, every=0.5)
        yield scene
    scene.close()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        # As root there is no sandbox of Chromium's.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


class Opened:
    """A page with what it complained of and what it asked for."""

    def __init__(self, browser, url, wait=True, **settings):
        settings = {"viewport": {"width": 1360, "height": 900}} | settings
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.errors, self.asked = [], []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)
        if wait:
            expect(self.page.locator("#connection")).to_have_text("● live")
            expect(self.page.locator("#routes tbody tr").first).to_be_visible()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.context.close()

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def painted(self, selector):
        """How many colours a canvas holds."""
        return self.page.evaluate(
            """selector => {
              const canvas = document.querySelector(selector);
              const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
              const colours = new Set();
              for (let at = 0; at < data.length; at += 4) colours.add(data.slice(at, at + 4).join());
              return colours.size;
            }""",
            selector,
        )

    def axe(self):
        self.page.evaluate(AXE.read_text() + "; 0")
        found = self.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        return [(one["id"], one["nodes"][0]["target"], one["nodes"][0]["failureSummary"]) for one in found["violations"]]


@pytest.fixture
def opened(browser, scene):
    with Opened(browser, scene.admin + "/#/chat") as opened:
        yield opened
        assert opened.errors == []
        assert {url for url in opened.asked if not url.startswith(scene.admin + "/")} == set()


def test_every_part_is_filled_under_load_and_goes_on_moving(opened):
    page = opened.page
    expect(page.locator("#route-heading")).to_have_text("chat")
    assert [row.split()[0] for row in page.locator("#routes tbody tr").all_inner_texts()] == ["chat", "summaries", "embeddings"]
    expect(page.locator("#gateway")).to_contain_text("job store ready")
    expect(page.locator("#curve canvas")).to_be_visible()
    expect(page.locator("#heat canvas")).to_be_visible()
    assert opened.painted("#curve canvas") > 4 and opened.painted("#heat canvas") > 4
    for row in page.locator(".dumbbells tbody tr").all():
        assert "–" not in row.inner_text()
    assert page.locator("#outcomes tbody tr").count() == 5 and page.locator("#hedges tbody tr").count() == 4
    assert sorted(page.locator("#targets tbody th").all_inner_texts()) == ["north", "south"]
    expect(page.locator("#targets tbody tr").first).to_contain_text("healthy")
    expect(page.locator("#targets")).to_contain_text("of 40")
    expect(page.locator("#job-list tbody tr").first).to_be_visible()
    expect(page.locator("#dead-list tbody tr").first).to_contain_text("500")
    served = page.locator("#outcomes tbody tr").first.locator("td").last
    before = served.inner_text()
    expect(served).not_to_have_text(before)


def test_routes_are_sorted_by_every_column_and_chosen_by_mouse_and_keyboard(opened):
    page = opened.page
    heads = page.locator("#routes thead th")
    for index in range(heads.count()):
        head = heads.nth(index)
        for _ in range(2):
            head.locator("button").click()
            assert head.get_attribute("aria-sort") in ("ascending", "descending")
        assert page.locator("#routes th[aria-sort=ascending], #routes th[aria-sort=descending]").count() == 1
    head = heads.first.locator("button")
    names = lambda: page.locator("#routes tbody th").all_inner_texts()
    head.click()
    assert names() == sorted(names())
    head.click()
    assert names() == sorted(names(), reverse=True)
    page.locator("#routes tbody tr", has_text="embeddings").locator("td").nth(3).click()
    expect(page.locator("#route-heading")).to_have_text("embeddings")
    # It has no streams: what it has is shown.
    expect(page.locator("#phase input[value=total]")).to_be_checked()
    assert page.url.endswith("#/embeddings")
    button = page.get_by_role("button", name="summaries")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#route-heading")).to_have_text("summaries")
    assert button.get_attribute("aria-current") == "true"
    expect(page.locator("#route-facts")).to_contain_text("only counted")
    page.evaluate("location.hash = '#/chat'")
    expect(page.locator("#route-heading")).to_have_text("chat")
    page.locator("#show-idle").check()
    expect(page.locator("#routes tbody tr")).to_have_count(5)
    page.locator("#show-idle").uncheck()
    expect(page.locator("#routes tbody tr")).to_have_count(3)


def test_phases_windows_and_the_heatmap_answer_to_mouse_and_keys(opened):
    page = opened.page
    label = lambda: page.locator("#curve [role=img]").get_attribute("aria-label")
    expect(page.locator("#curve canvas")).to_be_visible()
    assert "300 ms" in label()
    page.locator("#phase label", has_text="Total").click()
    expect(page.locator("#curve [role=img]")).to_have_attribute("aria-label", re.compile("900 ms"))
    page.locator("#window input[value='1m']").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#window input[value='5m']")).to_be_checked()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#window input[value='1h']")).to_be_checked()
    curve = page.locator("#curve .u-over")
    box = curve.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#curve-readout")).to_contain_text("p9")
    heat = page.locator("#heat [role=group]")
    heat.focus()
    for key in ("ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
        expect(page.locator("#heat-readout")).to_contain_text("call")
    box = heat.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 12, box["y"] + box["height"] / 2)
    expect(page.locator("#heat-readout")).to_contain_text(" to ")


def test_the_sliders_tell_what_another_budget_would_have_demoted(opened):
    page = opened.page
    for phase in ("first_token", "total"):
        slider, says = page.locator(f"#what-if-{phase}"), page.locator(f"#what-if-{phase}-says")
        expect(says).to_contain_text("in force")
        slider.focus()
        page.keyboard.press("Home")
        expect(says).to_contain_text("100% over")
        expect(page.locator(f"#phase input[value={phase}]")).to_be_checked()
        page.keyboard.press("End")
        expect(says).to_contain_text("0% over")
        assert slider.get_attribute("aria-valuetext") == "10 min"
        page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Back to the budget in force").click()
    expect(page.locator("#what-if-total-says")).to_contain_text("in force")
    expect(page.get_by_role("button", name="Back to the budget in force")).to_be_disabled()


def test_jobs_are_filtered_paged_shown_and_acted_on(opened, scene):
    page = opened.page
    expect(page.locator("#job-counts tbody th").first).to_have_text("chat")
    page.locator("#job-counts").get_by_role("button", name="succeeded of chat").click()
    expect(page.locator("#job-status")).to_have_value("succeeded")
    expect(page.locator("#job-list tbody tr", has_text="running")).to_have_count(0)
    page.locator("#job-status").select_option("cancelled")
    page.locator("#job-status").select_option("")
    page.locator("#job-route").select_option("chat")
    expect(page.locator("#job-list tbody tr").first).to_be_visible()
    page.locator("#jobs-refresh").click()
    until(lambda: sum(scene.snapshot()["jobs"]["routes"][0][state] for state in ("running", "succeeded")) > 15, 40, every=0.5)
    page.locator("#jobs-refresh").click()
    page.locator("#jobs-older").click()
    expect(page.locator("#list-heading")).to_have_text("Older jobs")
    page.locator("#jobs-newest").click()
    expect(page.locator("#list-heading")).to_have_text("Newest jobs")

    # One that waits long is cancelled, and run again.
    connection = http.client.HTTPConnection(scene.public.removeprefix("http://"))
    body = {"model": "gpt-4o", "messages": [], "metadata": {"sim_latency_ms": "60000"}}
    _, text = scene.call(connection, "/v1/chat/completions", body, prefer="respond-async, wait=0")
    job = json.loads(text)["id"]
    # Under load the list moves; the job stays near its top.
    page.locator("#job-status").select_option("running")
    row = page.locator("#job-list tbody tr", has=page.locator(f"button[title={job}]"))
    row.get_by_role("button").click()
    dialog = page.locator("#job")
    expect(dialog.locator("code")).to_have_text(job)
    expect(dialog).to_contain_text("none stored")
    dialog.locator("[data-deed=cancel]").click()
    dialog.get_by_role("button", name="No", exact=True).click()
    dialog.locator("[data-deed=cancel]").click()
    dialog.locator("[data-sure=cancel]").click()
    expect(page.locator("#said")).to_contain_text("is cancelled")
    expect(dialog.locator("dd .chip")).to_contain_text("cancelled")
    expect(dialog.get_by_role("region", name="History of the job")).to_contain_text("cancelled")
    assert opened.axe() == []
    dialog.locator("[data-deed=retry]").click()
    dialog.locator("[data-sure=retry]").click()
    expect(page.locator("#said")).to_contain_text("is queued")
    dialog.locator("[data-deed=cancel]").click()
    dialog.locator("[data-sure=cancel]").click()
    expect(dialog.locator("dd .chip")).to_contain_text("cancelled")
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    page.locator("#job-status").select_option("succeeded")
    page.locator("#job-list tbody tr").first.get_by_role("button").click()
    expect(dialog).to_contain_text(" B")
    expect(dialog.locator("[data-deed=replay-callback]")).to_be_visible()
    page.locator("#job-close").click()


def test_dead_callbacks_are_replayed_one_by_one_and_all_together(opened, scene):
    page = opened.page
    row = page.locator("#dead-list tbody tr").first
    name = row.get_by_role("button").first.get_attribute("title")
    page.get_by_role("button", name=f"Replay the callback of {name}").click()
    expect(page.locator("#said")).to_contain_text("its callback pending")
    page.locator("#dead-all").click()
    expect(page.locator("#said")).to_contain_text("callbacks are delivered again", timeout=30_000)
    opened.errors.clear()  # one that is being delivered just now is refused, and Chromium says so


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1360, 360])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(browser, scene, theme, width):
    settings = {"viewport": {"width": width, "height": 800}, "color_scheme": theme, "reduced_motion": "reduce"}
    with Opened(browser, scene.admin + "/#/chat", **settings) as opened:
        expect(opened.page.locator("#curve canvas")).to_be_visible()
        expect(opened.page.locator("#job-list tbody tr").first).to_be_visible()
        assert opened.axe() == []
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width
        for narrow in (320, 390):
            # Also after days, when counts are long; charts take the new width a moment later.
            opened.page.set_viewport_size({"width": narrow, "height": 800})
            opened.page.wait_for_function("""(narrow) => {
                for (const cell of document.querySelectorAll("table.flows td.number")) cell.textContent = "12,345,678";
                return document.documentElement.scrollWidth === narrow;
            }""", arg=narrow)
        assert opened.errors == []


def test_the_theme_is_switched_and_kept(opened):
    page = opened.page
    background = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    light = background()
    page.emulate_media(color_scheme="dark")
    dark = background()
    assert light != dark
    button = page.locator("#theme")
    for label, colour in [("light", light), ("dark", dark), ("system", dark), ("light", light)]:
        button.click()
        expect(button).to_have_text(f"Theme: {label}")
        assert background() == colour
    page.reload()
    expect(button).to_have_text("Theme: light")


def test_the_stream_says_that_it_is_lost_and_comes_back_with_the_next_gateway(browser, tmp_path):
    scene = Scene(tmp_path)
    scene.begin()
    try:
        with Opened(browser, scene.admin + "/") as opened:
            page = opened.page
            before = opened.text("#gateway .strong")
            scene.end()
            banner = page.locator("#banner")
            expect(banner).to_contain_text("Connection lost")
            expect(page.locator("#connection")).to_have_text("▲ connection lost")
            assert opened.axe() == []
            # With the longest pause before the page would try by itself, or that may come first.
            expect(banner).to_contain_text("Next try in 5 s", timeout=20000)
            scene.begin()
            page.get_by_role("button", name="Try now").click(timeout=3000)
            expect(page.locator("#connection")).to_have_text("● live")
            expect(banner).to_be_hidden()
            expect(page.locator("#gateway .strong")).not_to_have_text(before)
            # A gateway without calls says what to do, and no chart is left blank without a word.
            for part in ("#curve", "#heat", "#phases", "#job-counts", "#dead-list"):
                expect(page.locator(f"{part} .empty").first).to_be_visible()
    finally:
        scene.close()


def test_the_page_names_the_target_that_is_down(browser, tmp_path):
    scene = Scene(tmp_path)
    scene.begin()
    try:
        with Opened(browser, scene.admin + "/#/summaries", wait=False) as opened:
            page = opened.page
            page.locator("#show-idle").check()
            expect(page.locator("#targets tbody tr")).to_contain_text("healthy")
            stop(scene.providers[1])
            connection = http.client.HTTPConnection(scene.public.removeprefix("http://"))
            for _ in range(8):
                scene.call(connection, "/v1/chat/completions", {"model": "sum-1", "messages": []})
            expect(page.locator("#notes")).to_contain_text("Provider: south failed too often")
            expect(page.locator("#targets tbody tr")).to_contain_text("ejected")
            expect(page.locator("#routes tr.chosen")).to_contain_text("0 of 1")
            assert opened.axe() == []
    finally:
        scene.close()


def test_a_gateway_with_a_token_asks_for_it_and_the_tab_alone_keeps_it(browser, tmp_path):
    scene = Scene(tmp_path, '[auth]\nadmin_token = { env = "ADMIN_TOKEN" }\n', {"ADMIN_TOKEN": TOKEN})
    scene.begin()
    try:
        status, _, body = ask(scene.admin, "/")
        assert status == 401 and b"<!doctype html>" in body
        assert ask(scene.admin, "/page/main.js")[0] == 200 and ask(scene.admin, "/api/live")[0] == 401
        with Opened(browser, scene.admin + "/", wait=False) as opened:
            page = opened.page
            field = page.get_by_role("textbox", name="Admin token")
            expect(field).to_be_visible()
            assert opened.axe() == []
            field.fill("a-wrong-token")
            page.keyboard.press("Enter")
            expect(page.locator("#token")).to_contain_text("That token was refused")
            field.fill(TOKEN)
            page.get_by_role("button", name="Connect").click()
            expect(page.locator("#connection")).to_have_text("● live")
            kept = "[JSON.stringify(localStorage), document.cookie, location.href].join()"
            assert TOKEN not in page.evaluate(kept)
            assert TOKEN not in "".join(opened.asked)
            page.reload()
            expect(page.locator("#connection")).to_have_text("● live")
            page.evaluate("sessionStorage.clear()")
            page.reload()
            expect(field).to_be_visible()
    finally:
        scene.close()


def ask(admin, path, method="GET", **headers):
    connection = http.client.HTTPConnection(admin.removeprefix("http://"), timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_the_files_are_bound_to_their_origin_and_known_by_their_tags(scene):
    for path in ("/", "/page/main.js", "/page/style.css", "/page/vendor/uPlot.esm.js"):
        status, headers, body = ask(scene.admin, path)
        assert status == 200 and body
        policy = headers["content-security-policy"]
        assert policy == (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
            "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
        )
        assert headers["x-content-type-options"] == "nosniff"
        assert ask(scene.admin, path, if_none_match=headers["etag"])[0] == 304
    assert ask(scene.admin, "/page/../Cargo.toml")[0] == 400
    assert ask(scene.admin, "/page/Cargo.toml")[0] == 404


def test_foreign_names_and_foreign_pages_are_turned_away(scene):
    assert ask(scene.admin, "/api/routes", host="evil.example")[0] == 421
    assert ask(scene.admin, "/api/routes", host="localhost:1")[0] == 200
    job = "/api/jobs/job_" + "0" * 32 + "/cancel"
    assert ask(scene.admin, job, "POST")[0] == 404
    assert ask(scene.admin, job, "POST", origin="http://evil.example")[0] == 403
    assert ask(scene.admin, job, "POST", origin="null")[0] == 403
    assert ask(scene.admin, job, "POST", sec_fetch_site="cross-site")[0] == 403
    assert ask(scene.admin, job, "POST", origin=scene.admin, sec_fetch_site="same-origin")[0] == 404
    assert ask(scene.admin, "/api/live", sec_fetch_site="cross-site")[0] == 403


def test_a_page_of_another_site_can_neither_act_nor_listen(browser, scene):
    """With a browser's own headers: another port is another origin, of the same site."""
    with Opened(browser, scene.admin + "/") as opened:
        page = opened.page
        page.goto(scene.receiver.url("").replace("127.0.0.1", "localhost"), wait_until="commit")
        answers = []
        page.on("response", lambda answer: answers.append(answer.status))
        page.evaluate(
            """async admin => {
              const tries = [["api/callbacks/dead", "GET"], ["api/live", "GET"], ["api/jobs/job_x/cancel", "POST"]];
              for (const [path, method] of tries) await fetch(`${admin}/${path}`, { method, mode: "no-cors" }).catch(() => 0);
            }""",
            scene.admin,
        )
        assert answers == [403, 403, 403]


def test_the_scripts_are_of_one_mind_about_their_types():
    done = subprocess.run(["tests/sdk/node_modules/.bin/tsc", "-p", "page/jsconfig.json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_is_vendored_is_what_npm_has_under_the_locked_digest():
    vendored, sdk = ROOT / "page/vendor", ROOT / "tests/sdk"
    installed = sdk / "node_modules/uplot"
    lock = json.loads((sdk / "package-lock.json").read_text())["packages"]["node_modules/uplot"]
    assert json.loads((installed / "package.json").read_text())["version"] == lock["version"]
    for name in ("uPlot.esm.js", "uPlot.min.css"):
        assert (vendored / name).read_bytes() == (installed / "dist" / name).read_bytes(), name
    assert (vendored / "uPlot.esm.d.ts").read_bytes() == (installed / "dist/uPlot.d.ts").read_bytes()
    assert (vendored / "uPlot.LICENSE").read_bytes() == (installed / "LICENSE").read_bytes()
    told = (vendored / "README.md").read_text()
    assert lock["integrity"] in told and lock["version"] in told
