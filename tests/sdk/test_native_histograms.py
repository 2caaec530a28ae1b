"""Native histograms, as Debian's Prometheus takes them, beside the classic ones of the same gateway."""

import threading
import time
import urllib.error
import urllib.request

import pytest
from watched import Watched, until

ACCEPT = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,text/plain;q=0.2"
FAMILIES = ["request_duration", "provider_duration", "overhead", "job_duration", "token_gap"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    watched, done, threads = Watched(tmp_path_factory.mktemp("native")), threading.Event(), []
    try:
        watched.begin()
        watched.scrape(native=True)
        threads = watched.load(done)
        until(lambda: sum(watched.ask('shunt_request_duration_seconds_count{job="shunt"}')) > 500, 60)
        until(lambda: watched.ask('histogram_count(shunt_job_duration_seconds{job="native"}) > 0'), 60)
        done.set()
        for thread in threads:
            thread.join(timeout=20)
        # A moment at which the newest scrapes of both kinds counted the same; counts only rise, so each does.

        def agree():
            watched.at = time.time()
            classic = (f'sum(shunt_{one}_seconds_count{{job="shunt"}})' for one in FAMILIES)
            native = (f'sum(histogram_count(shunt_{one}_seconds{{job="native"}}))' for one in FAMILIES)
            return watched.ask(" + ".join(classic)) == watched.ask(" + ".join(native)) != []

        until(agree, 60)
        yield watched
    finally:
        done.set()
        watched.close()


def by_series(watched, query):
    """Values by what a series is labelled with, but for who scraped it."""
    found = {}
    for one in watched.query(query)["result"]:
        labels = {name: value for name, value in one["metric"].items() if name not in ("job", "__name__")}
        found[tuple(sorted(labels.items()))] = float(one["value"][1])
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_native_histogram_has_the_count_and_sum_of_its_classic_one(watched, family):
    name = f"shunt_{family}_seconds"
    for part in ("count", "sum"):
        native = by_series(watched, f'histogram_{part}({name}{{job="native"}})')
        classic = by_series(watched, f'{name}_{part}{{job="shunt"}}')
        assert native and native.keys() == classic.keys()
        for series, value in classic.items():
            assert native[series] == pytest.approx(value, rel=1e-9), (part, series)


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_its_quantiles_are_a_bucket_wide_from_the_exact_ones(watched, share):
    native = watched.ask(f'histogram_quantile({share}, shunt_request_duration_seconds{{job="native", route="chat"}})')
    exact = watched.ask(
        f'shunt_latency_seconds{{job="shunt", route="chat", phase="total", quantile="{share}", window="1h"}}'
    )
    assert len(native) == len(exact) == 1
    assert native[0] == pytest.approx(exact[0], rel=0.091)


def test_every_other_series_is_that_of_the_text(watched):
    def names(job):
        told = watched.query(f'count by (__name__) ({{job="{job}", __name__=~"shunt_.*|process_.*"}})')
        return {one["metric"]["__name__"]: one["value"][1] for one in told["result"]}

    native, text = names("native"), names("shunt")
    histograms = {name for name in native if name.endswith("_seconds") and f"{name}_bucket" in text}
    assert len(histograms) == 8
    parts = {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    assert {name: native[name] for name in native.keys() - histograms} == {
        name: text[name] for name in text.keys() - parts
    }


def asked(watched, query, accept=ACCEPT):
    request = urllib.request.Request(f"{watched.admin}/metrics{query}", headers={"accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.headers["content-type"]


def test_only_who_asks_for_them_gets_them(watched):
    assert asked(watched, "?native_histograms=true").startswith("application/vnd.google.protobuf;")
    for query, accept in [("", ACCEPT), ("?native_histograms=false", ACCEPT), ("?native_histograms=true", "*/*")]:
        assert asked(watched, query, accept).startswith("text/plain; version=0.0.4")
    for query in ("?native_histograms=yes", "?native_histogram=true"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(watched, query)
        assert refused.value.code == 400 and b"native_histogram" in refused.value.read()
