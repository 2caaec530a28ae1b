"""The pictures of docs/page.md: python tests/sdk/pictures.py ADMIN, of what `scene.py` shows once it ran for an hour or so."""

import shutil
import sys

from playwright.sync_api import expect, sync_playwright

from conftest import ROOT

DESK = {"color_scheme": "light", "viewport": {"width": 1400, "height": 1215}}
PHONE = {"color_scheme": "dark", "viewport": {"width": 360, "height": 1130}, "device_scale_factor": 2}


def opened(browser, admin, **settings):
    page = browser.new_page(**settings)
    page.goto(f"{admin}/#/chat")
    expect(page.locator("#connection")).to_have_text("● live")
    page.get_by_text("5 min", exact=True).click()
    slider = page.locator("#what-if-first_token")
    slider.focus()
    # Some steps below the budget in force, so that the second line stands apart.
    for _ in range(8):
        slider.press("ArrowLeft")
    page.evaluate("document.activeElement.blur()")
    return page


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    desk, phone = (opened(browser, sys.argv[1], **one) for one in (DESK, PHONE))
    # Sparklines show the two minutes since the page was opened.
    desk.wait_for_timeout(125_000)
    desk.screenshot(path=ROOT / "docs" / "page-light.png")
    phone.screenshot(path=ROOT / "docs" / "page-phone.png")
    browser.close()
