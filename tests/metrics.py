"""The metrics of an API that a bad token and a made-up method were sent to: metrics.py URL TOKEN."""

import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

URL, TOKEN = sys.argv[1:]
request = urllib.request.Request(f"{URL}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
with urllib.request.urlopen(request, timeout=30) as answer:
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0"), answer.headers
    text = answer.read().decode()

families = {family.name: family for family in text_string_to_metric_families(text)}
samples = {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families.values() for s in family.samples}


def value(name, **labels):
    return samples[f"compliance_api_{name}", tuple(sorted(labels.items()))]


assert all(name.startswith("compliance_api_") and family.documentation for name, family in families.items()), families
kinds = {name.removeprefix("compliance_api_"): family.type for name, family in families.items()}
assert kinds["requests"] == "counter" and kinds["connections"] == "gauge" and kinds["build"] == "info", kinds
assert kinds["request_duration_seconds"] == kinds["commit_duration_seconds"] == "histogram", kinds
assert value("requests_total", method="GET", route="/v1/hosts", status="401") == 1
assert value("requests_total", method="other", route="none", status="404") == 1
assert value("incidents_open", kind="bad_token") == 1
assert value("commit_duration_seconds_count") >= 1
assert value("request_duration_seconds_count", route="/v1/hosts") == 1
print(f"metrics: {len(samples)} samples of {len(families)} families")
