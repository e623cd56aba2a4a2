"""Posts events as the CloudEvents SDK writes them, and reads them back: sdk_posts.py URL CLIENT TOKEN AUDITOR."""

import datetime
import json
import sys
from importlib.metadata import version

import requests

URL, CLIENT, TOKEN, AUDITOR = sys.argv[1:]
SDK = version("cloudevents")
TYPE = "app.authentication"
TIME = datetime.datetime.now(datetime.timezone.utc)

if SDK.startswith("1."):
    from cloudevents.conversion import to_binary, to_json, to_structured
    from cloudevents.http import CloudEvent

    def event(attributes, data):
        return CloudEvent({**attributes, "time": attributes["time"].isoformat()}, data)

else:
    from cloudevents.core.bindings import http
    from cloudevents.core.formats.json import JSONFormat
    from cloudevents.core.v1.event import CloudEvent

    def event(attributes, data):
        return CloudEvent({"specversion": "1.0", **attributes}, data)

    def to_binary(event):
        message = http.to_binary_event(event)
        return message.headers, message.body

    def to_structured(event):
        message = http.to_structured_event(event)
        return message.headers, message.body

    def to_json(event):
        return JSONFormat().write(event)


def to_batch(*events):
    # The SDK writes the events of a batch, not the batch.
    return {"content-type": "application/cloudevents-batch+json"}, b"[" + b",".join(map(to_json, events)) + b"]"


def stated(name, data, **more):
    return event({"id": name, "source": f"/clients/{CLIENT}", "type": TYPE, "time": TIME, **more}, data)


def post(message):
    headers, body = message
    answer = requests.post(f"{URL}/v1/artifacts", data=body, headers={**headers, "Authorization": f"Bearer {TOKEN}"})
    return answer.status_code, answer.json()


def taken(message, accepted=1, stored=None):
    status, answer = post(message)
    found = (status, answer.get("accepted"), answer.get("stored"))
    assert found == (200, accepted, accepted if stored is None else stored), (SDK, message, status, answer)
    assert answer["receipt"]["signature"].startswith("-----BEGIN SSH SIGNATURE-----"), answer


def refused(message, status, code):
    found, answer = post(message)
    assert (found, answer["code"]) == (status, code), (SDK, message, found, answer)


login = {"user": "u-1027", "result": "accepted", "account": "app"}
json_type = {"datacontenttype": "application/json"}
taken(to_structured(stated("structured", login)))
taken(to_structured(stated("structured, typed", login, **json_type, subject="login", customext="x")))
taken(to_structured(stated("structured, bytes", json.dumps(login).encode())))
taken(to_binary(stated("binary", login)))
taken(to_binary(stated("binary, typed", login, **json_type, subject="login", customext="x")))
taken(to_binary(stated("binary, bytes", json.dumps(login).encode(), **json_type)))
if not SDK.startswith("1."):
    taken(to_binary(stated("binary, 100 % \u20ac", login)))
batch = [stated(f"batch {n}", login) for n in range(3)] + [stated("batch, bytes", json.dumps(login).encode())]
taken(to_batch(*batch), accepted=4)

# The same again, in another mode, is the same event.
taken(to_binary(stated("structured", login)), stored=0)
taken(to_structured(stated("binary, bytes", json.dumps(login).encode())), stored=0)
taken(to_batch(stated("binary", login), stated("batch, bytes", login)), accepted=2, stored=0)

refused(to_structured(stated("structured", {**login, "user": "u-9"})), 409, "conflict")
refused(to_binary(stated("a list", [1])), 422, "malformed")
refused(to_binary(stated("text", "no JSON", datacontenttype="text/plain")), 415, "media_type")
refused(to_structured(stated("text", "no JSON", datacontenttype="text/plain")), 400, "malformed")
refused(to_binary(event({"id": "x", "source": "/clients/other", "type": TYPE, "time": TIME}, login)), 403, "role")

lines = requests.get(
    f"{URL}/v1/artifacts",
    params={"client": CLIENT},
    headers={"Authorization": f"Bearer {AUDITOR}", "Accept": "application/x-ndjson"},
).text.splitlines()
found = {event["id"]: event for event in map(json.loads, lines)}
expected = {"structured", "structured, typed", "structured, bytes", "binary", "binary, typed", "binary, bytes", "batch, bytes"}
expected |= {"batch 0", "batch 1", "batch 2"} | (set() if SDK.startswith("1.") else {"binary, 100 % \u20ac"})
assert set(found) == expected and len(lines) == len(expected), sorted(found)
for one in found.values():
    assert (one["data"], one["type"]) == (login, TYPE), one
    assert datetime.datetime.fromisoformat(one["time"].replace("Z", "+00:00")) == TIME, (one["time"], TIME)
print(f"cloudevents {SDK}: {len(found)} events taken, structured, binary and in a batch")
