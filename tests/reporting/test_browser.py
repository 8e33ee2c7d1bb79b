"""The pages in a browser: no errors, no requests, tables that sort and filter. Needs Chromium."""

import json
import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from urllib.parse import unquote

import pytest
from pages import Page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed"),
]

# Sorts the main table by RA, twice, and by name, filters it, and writes down the first column.
CLICKS = """
const table = document.querySelector("#table-main");
const shown = () => [...table.querySelectorAll("tr")].filter((row) => !row.hidden)
  .map((row) => row.cells[0].textContent.trim());
const buttons = table.querySelectorAll("thead button");
const out = {};
buttons[2].click(); out.descending = shown();
out.aria = buttons[2].closest("th").getAttribute("aria-sort");
buttons[2].click(); out.ascending = shown();
buttons[0].click(); out.names = shown();
const field = document.querySelector("label.filter input");
field.value = "trades"; field.dispatchEvent(new Event("input")); out.filtered = shown();
field.value = "nothing"; field.dispatchEvent(new Event("input")); out.nothing = shown();
document.title = encodeURIComponent(JSON.stringify(out));
"""


def open_page(folder, page, width=1280):
    """The page's text after its scripts ran, console messages, and requests to outside."""
    path = folder / "page.html"
    path.write_bytes(page)
    log = folder / "net.json"
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}",
        f"--window-size={width},900", "--disable-background-networking", "--disable-sync",
        "--disable-component-update", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND",
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    # A browser asks its maker for this and that; what a page asks for has the page as its origin.
    requests = re.findall(r'"url":"(https?://[^"]*)"', log.read_text("utf-8", errors="replace"))
    asked = [url for url in requests if "google" not in url and "gstatic" not in url]
    return done.stdout, console, asked


@pytest.fixture(scope="module")
def clicked(complete_report, tmp_path_factory):
    """What became of the English page, the clicking script added to what it may run."""
    digest = b64encode(sha256(CLICKS.encode()).digest()).decode()
    page = complete_report["report.en.html"].decode()
    page = page.replace("script-src '", f"script-src 'sha256-{digest}' '")
    page = page.replace("</body>", f"<script>{CLICKS}</script></body>")
    text, console, requests = open_page(tmp_path_factory.mktemp("page"), page.encode())
    (title,) = re.findall(r"<title>(%7B.*?)</title>", text)
    return json.loads(unquote(title)), console, requests


def test_a_page_runs_without_errors_and_asks_for_nothing(clicked):
    _, console, requests = clicked
    assert console == []
    assert requests == []


def test_tables_sort_within_their_blocks(clicked, complete, complete_report):
    out, _, _ = clicked
    study, results = complete
    page = Page(complete_report["report.en.html"].decode())
    headers = [row[0] for row in page.tables["table-main"]]
    names = dict(zip(study.axes.defenses, headers[2:8], strict=True))
    block = 1 + len(names) + 1  # its heading, its rows, and what is detectable
    for place, architecture in enumerate(study.axes.architectures):
        means = {d: results.metric("RA")[architecture, d].mean() for d in study.axes.defenses}
        order = [names[d] for d in sorted(means, key=lambda d: -means[d])]
        start = 1 + place * block
        found = {key: [re.sub(r"[a-z]$", "", t) for t in out[key][start + 1 : start + block - 1]]
                 for key in ("descending", "ascending", "names")}  # fmt: skip
        plain = [re.sub(r"[a-z]$", "", name) for name in order]
        # Printed alike is not ordered further: compare what is printed.
        printed = {re.sub(r"[a-z]$", "", names[d]): round(100 * m, 1) for d, m in means.items()}
        assert [printed[name] for name in found["descending"]] == [printed[n] for n in plain]
        assert [printed[name] for name in found["ascending"]] == [printed[n] for n in plain[::-1]]
        assert found["names"] == sorted(plain, key=str.lower)
        for key in ("descending", "ascending", "names"):
            assert out[key][start] == headers[start]
            assert out[key][start + block - 1] == "Detectable difference"
    assert out["aria"] == "descending"


def test_tables_filter(clicked):
    out, _, _ = clicked
    rows = [text for text in out["filtered"] if "TRADES" in text]
    assert sorted({re.sub(r"[a-z]$", "", text) for text in rows}) == ["D-TRADES", "TRADES"]
    assert not any(text.startswith(("AT", "MART", "FAAL")) for text in out["filtered"])
    assert len(out["nothing"]) == 1  # the head is left


@pytest.mark.parametrize("width", [500, 1280])
def test_no_page_is_wider_than_the_screen(clicked, complete_report, tmp_path, width):
    script = "document.title = document.documentElement.scrollWidth;"
    digest = b64encode(sha256(script.encode()).digest()).decode()
    page = complete_report["report.es.html"].decode()
    page = page.replace("script-src '", f"script-src 'sha256-{digest}' '")
    page = page.replace("</body>", f"<script>{script}</script></body>")
    text, _, _ = open_page(tmp_path, page.encode(), width)
    assert int(re.findall(r"<title>(\d+)</title>", text)[0]) <= width


def test_the_check_notices_a_request_and_an_error(tmp_path):
    page = b"<!DOCTYPE html><title>x</title><img src='http://outside.example/x.png'><script>x.y</script>"
    _, console, requests = open_page(tmp_path, page)
    assert any("not defined" in line for line in console)
    assert set(requests) == {"http://outside.example/x.png"}
