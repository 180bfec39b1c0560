"""The page in a real browser, headless: nothing is requested, nothing complains, hands and eyes can use it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.saved import save
from trm_verify.report import report_page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no Chromium with its driver here; install it: apt-get install chromium chromium-driver",
)
SHOTS = Path(__file__).parents[2] / "out" / "report"
CURVE = {"points": [{"eps": e, "certified": c, "refuted": r, "inputs": 10}
                    for e, c, r in (("0.001", 9, 0), ("0.01", 6, 2), ("0.03", 1, 6))]}  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = save(tmp_path_factory.mktemp("saved") / "mine")
    (directory / "accuracy.json").write_text(json.dumps(CURVE))
    target = directory / "report.html"
    target.write_text(report_page(directory), "utf-8")
    return target


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"):
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Callable[..., Any]:
    def open_page(width: int = 1100, scheme: str = "light") -> Any:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(page.as_uri())
        return browser

    return open_page


def shot(browser: Any, name: str) -> None:
    """The whole page as a picture, for people to look at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    width, height = browser.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    (SHOTS / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


def test_nothing_is_requested_and_nothing_complains(opened: Callable[..., Any], page: Path) -> None:
    browser = opened()
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser = opened()
    shot(browser, "light")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked
    assert all(url.startswith(("data:", page.as_uri())) for url in asked), asked
    assert browser.get_log("browser") == []


def test_the_policy_stops_what_does_not_belong(opened: Callable[..., Any]) -> None:
    browser = opened()
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.foreign = 1'; document.body.append(s);"
        "const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"
    )
    assert browser.execute_script("return window.foreign") is None
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


@pytest.mark.parametrize("width", [400, 320, 768, 1100])
def test_nothing_sticks_out(opened: Callable[..., Any], width: int) -> None:
    browser = opened(width)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    for details in browser.find_elements("css selector", "details"):
        browser.execute_script("arguments[0].open = true", details)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"), "with all folds open"
    if width == 400:
        shot(opened(width, "dark"), "phone-dark")


def test_text_of_figures_can_be_read_on_a_phone(opened: Callable[..., Any]) -> None:
    sizes = opened(400).execute_script(
        "return [...document.querySelectorAll('figure svg text')].map(t =>"
        " parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getBoundingClientRect().width"
        " / t.ownerSVGElement.viewBox.baseVal.width)"
    )
    assert sizes and min(sizes) >= 9


def test_the_slider_by_keyboard(opened: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = opened()
    slider = browser.find_element("css selector", "input[type=range]")
    said = browser.find_element("css selector", "[data-said]")
    line = browser.find_element("css selector", "[data-cursor]")
    label = browser.find_element("css selector", f"label[for='{slider.get_attribute('id')}']")
    assert label.text and slider.get_attribute("aria-valuetext") == said.text
    slider.send_keys(Keys.HOME)
    seen = []
    for _ in range(3):
        seen.append((said.text, line.get_attribute("x1"), [
            b.get_attribute("height") for b in browser.find_elements("css selector", "[data-class]")
        ]))  # fmt: skip
        slider.send_keys(Keys.ARROW_RIGHT)
    assert [text.split(" of")[0] for text, _, _ in seen] == ["Step 0", "Step 1", "Step 2"]
    assert len({x for _, x, _ in seen}) == 3
    slider.send_keys(Keys.END)
    last = said.text
    assert "proved final" in last and slider.get_attribute("aria-valuetext") == last
    buttons = browser.find_elements("css selector", ".controls button")
    assert [b.accessible_name for b in buttons] == ["previous step", "next step"]
    assert [b.is_enabled() for b in buttons] == [True, False]
    buttons[0].send_keys(Keys.ENTER)
    assert said.text != last


def test_the_order_of_the_keyboard(opened: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    browser = opened()
    browser.execute_script("document.activeElement.blur()")
    met: list[str] = []
    for _ in range(60):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        met.append(active.get_attribute("class") or active.get_attribute("href") or active.tag_name)
        if active.tag_name == "input":
            break
    assert met[0] == "skip" and met[-1] == "input", "the skip link first, the slider within reach"
    places = browser.execute_script(
        "return [...document.querySelectorAll('a,button,input,summary,[tabindex]')].map(e => e.tabIndex)"
    )
    assert set(places) == {0}, "the order is that of the page"


def _luminance(color: str) -> float:
    parts = [float(v) / 255 for v in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme_and_can_be_told_apart(opened: Callable[..., Any], scheme: str) -> None:
    """The contrast that WCAG asks for: 4.5 for text, 3 for what is drawn."""
    browser = opened(1100, scheme)
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (_luminance(paper) < 0.1) == (scheme == "dark")
    card = browser.execute_script("return getComputedStyle(document.querySelector('figure')).backgroundColor")
    read: list[str] = browser.execute_script(
        "return ['.muted', 'figcaption', 'a', 'p', 'h1', '.verdict strong', '.claims b', 'summary']"
        ".map(s => document.querySelector(s)).filter(Boolean).map(e => getComputedStyle(e).color)"
    )
    drawn: list[str] = browser.execute_script(
        "return ['.proved', '.measured', '.final', '.plain'].map(s => document.querySelector('svg .line' + s))"
        ".filter(Boolean).map(e => getComputedStyle(e).stroke)"
    )
    for colors, least in ((read, 4.5), (drawn, 3.0)):
        assert len(colors) >= 3
        for color in colors:
            for ground in (paper, card):
                light, dark = sorted((_luminance(color), _luminance(ground)), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= least, (color, ground)


def test_landmarks_and_names_for_screen_readers(opened: Callable[..., Any]) -> None:
    browser = opened()
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles: dict[str, list[str]] = {}
    for node in tree:
        if not node.get("ignored"):
            roles.setdefault(node["role"]["value"], []).append(str(node.get("name", {}).get("value", "")))
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert len(roles.get(landmark, [])) == 1, landmark
    assert all(roles["slider"]) and all(roles["button"]) and all(roles["link"])
    pictures = roles.get("image", []) + roles.get("img", [])
    assert len(pictures) >= 5 and all(pictures)
