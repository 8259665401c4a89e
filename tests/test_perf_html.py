# SPDX-FileCopyrightText: trtkit contributors
# SPDX-License-Identifier: Apache-2.0
"""The HTML page: nothing from a network, nothing of a stranger's, and every chart drawn in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from perf_results import SECOND, START_NS, STRANGE, measurement, stages_of
from trtkit.errors import ProjectError
from trtkit.perf.reports import html
from trtkit.perf.reports.html import page, write_page
from trtkit.perf.reports.html_charts import distribution, percentile_line, throughput_latency
from trtkit.perf.reports.html_stages import segments_of
from trtkit.perf.reports.html_timeline import judged_ns, timeline
from trtkit.perf.statistics.latency import nearest_rank

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")
SIX_MB = 6 * 1000 * 1000


def runs():
    """What a user may have measured, by name: everything that makes a chart or a section."""
    levels = [
        measurement(
            concurrency=1 << n, per_second=100 << n, start_ns=START_NS + 9 * n * SECOND, error_share=0.02 * n,
            stable=n != 3, gpu=True, ensemble=True, model=STRANGE,
        )
        for n in range(4)
    ]  # fmt: skip
    paced = [measurement(rate=rate, per_second=rate, stall=(3.2, 1.0)) for rate in (200, 400)]
    dead = replace(measurement(error_share=1.0, stable=False), server=None, samples=())
    return {"levels": levels, "paced": paced, "stream": [measurement(responses=9)], "dead": [dead]}


def page_of(measurements, **more):
    return page(measurements, stages=[stages_of(one) for one in measurements], **more)


def figures_of(text):
    return json.loads(re.search(r'id="figures">(.*?)</script>', text, flags=re.DOTALL)[1])


def without_plotly(text):
    return text.replace(html._plotly(), "")


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between tags."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("name", runs())
def test_the_page_asks_no_network(name):
    text = without_plotly(page_of(runs()[name]))
    parsed = Tags(text)
    loads = [value for _, attrs in parsed.tags for key, value in attrs.items() if key in ("src", "href", "action")]
    assert loads == ["data:,"]
    assert not re.search(r"https?://|@import|url\(", text)
    policy = next(attrs["content"] for _, attrs in parsed.tags if attrs.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_a_strangers_names_are_text_everywhere():
    levels = runs()["levels"]
    diagnoses = [SimpleNamespace(title=STRANGE, because=STRANGE, try_=STRANGE)]
    text = without_plotly(page_of(levels, data=STRANGE, diagnoses=diagnoses, facts={STRANGE: STRANGE}))
    parsed = Tags(text)
    assert [tag for tag, _ in parsed.tags].count("script") == 3
    assert "<b>me" not in text
    assert "\x1b" not in text
    assert any("<b>me&lt;</script><script>alert(1)</script>" in piece for piece in parsed.text)
    plotly_texts = json.dumps([figure["data"] for figure in figures_of(text)], ensure_ascii=False)
    assert "<b>" not in plotly_texts
    assert "&lt;b&gt;me" in plotly_texts


@pytest.mark.parametrize(
    ("name", "charts"),
    [
        ("levels", ["throughput-latency", "distribution", "timeline", "stages", "steps", "models", "batch-sizes"]),
        ("paced", ["throughput-latency", "distribution", "timeline", "stages", "batch-sizes"]),
        ("stream", ["throughput-latency", "distribution", "streaming", "timeline", "stages", "batch-sizes"]),
        ("dead", ["timeline"]),
    ],
)
def test_charts_are_those_that_have_something_to_say(name, charts):
    text = page_of(runs()[name])
    assert [figure["name"] for figure in figures_of(text)] == charts
    places = [attrs for tag, attrs in Tags(without_plotly(text)).tags if attrs.get("class") == "chart"]
    assert [attrs["id"] for attrs in places] == [f"chart-{name}" for name in charts]
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in places)


def test_every_axis_of_values_says_its_unit():
    for figure in figures_of(page_of([*runs()["levels"]])) + figures_of(page_of(runs()["stream"])):
        titles = json.dumps([figure["layout"]], ensure_ascii=False)
        assert re.search(r", (ms|%|inferences/s|samples)", titles), figure["name"]


def test_the_page_says_what_did_not_hold_and_why():
    levels = runs()["levels"]
    texts = " ".join(Tags(without_plotly(page_of(levels, facts={"machine": "two cores"}))).text)
    assert "1 of 4 measurements did not hold: concurrency 8 is unstable" in texts
    assert "not stable: the throughput varied by 20 %" in texts
    assert "two cores" in texts
    assert f"{levels[0].latency.p99_ns / 1e6:.3f}" in texts


def test_the_distribution_is_made_of_nearest_ranks():
    values = np.sort(np.random.default_rng(0).integers(1, 10**9, 5000))
    line = percentile_line("x", values, dash="solid", meta={})
    assert len(line.x) <= 200
    for inverse, shown in zip(line.x[1:], line.y[1:], strict=True):
        share = 1 - 1 / inverse
        near = values[[max(int(share * 5000) - 2, 0), min(int(share * 5000) + 2, 4999)]] / 1e6
        assert near[0] - 1e-3 <= shown <= near[1] + 1e-3
    assert line.y[0] == pytest.approx(values[0] / 1e6, abs=1e-5)
    few = percentile_line("x", values[:100], dash="solid", meta={})
    assert few.x[-1] == 100
    assert few.y[-1] == pytest.approx(nearest_rank(values[:100], 990) / 1e6, abs=1e-5)


def test_the_intended_time_shows_the_stall_that_the_send_hides():
    chart = distribution([measurement(rate=400, per_second=400, stall=(3.2, 1.0))])
    from_send, intended = chart.figure.data
    assert (from_send.name, intended.name) == ("from the send", "from the intended time")
    assert max(intended.y) > 900 > 100 > max(from_send.y)


def test_the_curve_goes_from_light_to_heavy_load():
    levels = runs()["levels"]
    chart = throughput_latency([levels[2], levels[0], levels[3], levels[1]])
    assert list(chart.figure.data[0].x) == [one.throughput_infer_per_s for one in levels]
    assert chart.figure.data[0].marker.symbol == ("circle", "circle", "circle", "circle-open")


def test_the_timeline_counts_every_request_once_and_shows_gaps():
    one = measurement(per_second=200)
    ends = one.all_records.last_ns - START_NS
    kept = one.all_records.where((ends < 2 * SECOND) | (ends >= 4 * SECOND))
    chart = timeline([replace(one, all_records=kept, samples=())])
    points = {trace.name: [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if x] for trace in chart.figure.data}
    length_s = points["throughput"][1][0] - points["throughput"][0][0]
    assert sum(y for _, y in points["throughput"]) * length_s == pytest.approx(len(kept), rel=1e-3)
    silent = {name: {y for x, y in line if 2.2 < x < 3.8} for name, line in points.items()}
    assert silent == {"p50": {None}, "p99": {None}, "throughput": {0}}


def test_the_judged_windows_are_the_last_ones():
    one = measurement(seconds=7)
    assert judged_ns(one) == (START_NS + 2 * SECOND, START_NS + 7 * SECOND)
    assert judged_ns(replace(one, windows=one.windows[:3])) == (START_NS, START_NS + 3 * SECOND)


def test_the_stages_add_up_to_the_mean_latency():
    one = measurement()
    assert sum(ns for _, ns in segments_of(stages_of(one))) == pytest.approx(one.latency.mean_ns, rel=1e-6)
    parallel = measurement(ensemble=True)
    names = [name for name, _ in segments_of(stages_of(parallel))]
    assert "metadata" not in names  # beside a slower one
    assert sum(ns for _, ns in segments_of(stages_of(parallel))) == pytest.approx(parallel.latency.mean_ns, rel=1e-6)


def test_a_million_requests_make_a_small_page():
    one = measurement(seconds=20, per_second=50_000, rate=50_000.0, gpu=True, error_share=0.001)
    assert len(one.all_records) == 1_000_000
    assert len(page_of([one]).encode()) < SIX_MB


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path):
    write_page(tmp_path / "deep" / "page.html", "<p>")
    with pytest.raises(ProjectError, match="cannot be written"):
        write_page(tmp_path / "deep" / "page.html" / "page.html", "<p>")


def test_windows_without_requests_do_not_break_the_page():
    one = measurement(seconds=1, per_second=1)
    empty = one.all_records.where(np.zeros(len(one.all_records), bool))
    windows = (replace(one.windows[0], requests=0, p50_ns=None, p90_ns=None, p99_ns=None),)
    nothing = replace(one, records=empty, all_records=empty, latency=None, windows=windows, samples=(), server=None)
    assert figures_of(page([nothing])) == []
    page_of([one])


PROBE = """<script>
async function probe() {
  await draw();
  const found = {};
  for (const place of document.querySelectorAll(".chart")) {
    const svg = place.querySelector("svg.main-svg");
    found[place.id] = {drawn: !!svg && svg.querySelectorAll("path, .point").length > 0, text: place.textContent,
                       wide: svg ? svg.clientWidth <= place.clientWidth : false};
  }
  const root = document.documentElement;
  const result = {charts: found, fits: root.scrollWidth <= root.clientWidth, width: innerWidth,
                  ground: getComputedStyle(document.body).backgroundColor,
                  buttons: [...document.querySelectorAll(".modebar-btn")].map(one => one.getAttribute("data-title"))};
  parent.postMessage(result, "*");
}
addEventListener("load", () => setTimeout(probe, 300));
</script>"""

FRAME = """<!doctype html><body><iframe src="page.html" style="width:{width}px;height:3000px;border:0"></iframe>
<script>addEventListener("message", event => {{
  const place = document.createElement("pre");
  place.id = "result";
  place.textContent = JSON.stringify(event.data);
  document.body.append(place);
}});</script>"""


FAKE_SCHEME = """<script>
const real = matchMedia, scheme = {matches: false, addEventListener(_, redraw) { this.redraw = redraw; }};
window.matchMedia = query => query.includes("color-scheme") ? scheme : real.call(window, query);
</script>"""

SWITCH = """<script>
async function changed() {
  const stroke = () => document.querySelector("#chart-distribution .js-line").style.stroke;
  await draw();
  const strokes = [stroke()];
  scheme.matches = true;
  await scheme.redraw();
  parent.postMessage([...strokes, stroke()], "*");
}
addEventListener("load", () => setTimeout(changed, 300));
</script>"""


def opened(folder, text, *, width=1200, dark=False, probe=PROBE):
    """The page in headless Chromium: what its charts say, and the browser's log."""
    (folder / "page.html").write_text(text.replace("</body>", f"{probe}</body>"))
    (folder / "frame.html").write_text(FRAME.format(width=width))
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", scheme]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=15000", "--window-size=1400,1000"]
    done = subprocess.run(
        [*command, "--dump-dom", (folder / "frame.html").as_uri()], capture_output=True, text=True, timeout=200
    )
    match = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert match, done.stderr[-3000:]
    return json.loads(Tags(match[0]).text[0]), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@needs_chromium
@pytest.mark.parametrize(
    ("name", "width", "dark"), [("levels", 1200, False), ("paced", 390, True), ("stream", 390, False)]
)
def test_every_chart_is_drawn_without_a_console_error(tmp_path, name, width, dark):
    text = page_of(runs()[name])
    found, console = opened(tmp_path, text, width=width, dark=dark)
    assert console == []
    assert list(found["charts"]) == [f"chart-{figure['name']}" for figure in figures_of(text)]
    assert all(chart["drawn"] and chart["wide"] for chart in found["charts"].values())
    assert found["width"] == width
    assert found["fits"]
    assert found["ground"] == ("rgb(15, 19, 26)" if dark else "rgb(245, 246, 248)")
    assert not [title for title in found["buttons"] if re.search("share|cloud|edit", title, flags=re.IGNORECASE)]
    if name == "levels":
        assert found["buttons"]
        assert "<b>me" in found["charts"]["chart-models"]["text"]


@needs_chromium
def test_the_charts_are_drawn_anew_when_light_turns_dark(tmp_path):
    text = page_of(runs()["stream"]).replace("<head>", f"<head>{FAKE_SCHEME}")
    strokes, console = opened(tmp_path, text, probe=SWITCH)
    assert console == []
    assert strokes == ["rgb(36, 99, 209)", "rgb(116, 169, 255)"]


@needs_chromium
def test_the_browser_would_have_told_of_a_defect_or_a_request(tmp_path):
    text = page_of(runs()["stream"]).replace("\ndraw();", "\ndraw(); missing();")
    text = text.replace("</header>", '</header><img src="http://127.0.0.1:9/x.png" alt="">')
    _, console = opened(tmp_path, text)
    assert any("Content Security Policy" in line for line in console)
    assert any("missing is not defined" in line for line in console)
