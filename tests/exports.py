"""A host's records of every type into the API, and its exports out of it: exports.py URL DIR RECORDS ENROL CLIENT AUDITOR."""

import json
import os
import subprocess
import sys
import urllib.request

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

URL, DIR, RECORDS, ENROL, CLIENT, AUDITOR = sys.argv[1:]
LEDGER = "00112233445566778899aabbccddeeff"
BATCH = "application/cloudevents-batch+json"


def ask(path, token, media=None, body=None):
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/x-ndjson"}
    if media:
        headers["Content-Type"] = media
    request = urllib.request.Request(URL + path, data=body, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=30).read().decode()
    except urllib.error.HTTPError as error:
        sys.exit(f"{path}: {error.code} {error.read().decode()}")


def canonical(record):
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def escaped(value):
    """What a record makes of text: backslashes doubled, control characters as hex."""
    if isinstance(value, str):
        return "".join(f"\\x{ord(c):02x}" if ord(c) < 32 else c.replace("\\", "\\\\") for c in value)
    if isinstance(value, dict):
        return {name: escaped(inner) for name, inner in value.items()}
    return [escaped(inner) for inner in value] if isinstance(value, list) else value


def host():
    """The lines of a ledger, signed with a key of its own."""
    key = os.path.join(DIR, "key")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key], check=True)
    with open(key + ".pub") as file:
        public = " ".join(file.read().split()[:2])
    with open(RECORDS) as file:
        samples = json.load(file)
    prev, lines = "0" * 64, []
    for seq, sample in enumerate(samples, 1):
        record = {"v": 1, "ledger": LEDGER, "seq": seq, "host": "i-1", "stack": "web", "prev": prev}
        record |= {"boot": "7b5f3f6e-3c1e-4c37-8f0e-0d9f6f3a1b2c", "time": f"2026-11-23T12:00:{seq:02}.250000Z"}
        record |= {("type" if name == "kind" else name): escaped(value) for name, value in sample.items()}
        if "public_key" in record["detail"]:
            record["detail"]["public_key"] = public
        if record["type"] == "key.rotated" or not record["detail"]:
            # The key would have to sign what follows; and a record without detail has none.
            record.pop("detail")
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "ssh-access-record", "-"]
        signed = subprocess.run(command, input=canonical(record).encode(), capture_output=True, check=True)
        line = canonical(record | {"signature": signed.stdout.decode()})
        prev = subprocess.run(["sha256sum"], input=(line + "\n").encode(), capture_output=True).stdout.decode().split()[0]
        lines.append(line)
    return lines


def event(source, name, kind, data):
    head = {"specversion": "1.0", "id": name, "source": source, "type": kind}
    return json.dumps(head)[:-1] + ',"data":' + data + "}"


lines = host()
parsed = [json.loads(line) for line in lines]
batch = [event("/stacks/web/hosts/i-1", f"{LEDGER}/{r['seq']}", r["type"], line) for r, line in zip(parsed, lines)]
ask("/v1/artifacts", ENROL, BATCH, f"[{','.join(batch)}]".encode())
logins = [
    {"user": "u-1027", "result": "accepted", "address": "203.0.113.4"},
    {"user": "u-1027", "result": "refused", "address": "2001:db8::1", "detail": {"nothing": None, "list": [1.5, []]}},
    {"person": "ann", "anything": {"else": True}},
]
batch = [event("/clients/portal", f"e-{n}", "app.authentication", json.dumps(data)) for n, data in enumerate(logins)]
batch.append(event("/clients/portal", "e-9", "app.support.opened", json.dumps({"person": "ann", "host": 7})))
ask("/v1/artifacts", CLIENT, BATCH, f"[{','.join(batch)}]".encode())


def read(form):
    # All that is stored, the server's own ledger included.
    found = ask(f"/v1/artifacts?form={form}", AUDITOR) + ask(f"/v1/artifacts?form={form}&type=server.*", AUDITOR)
    for kind in ("token.*", "evidence.*", "ledger.enrolled"):
        found += ask(f"/v1/artifacts?form={form}&type={kind}", AUDITOR)
    return [json.loads(line) for line in found.splitlines()]


schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.5.0"))
classes = {}
events = read("ocsf")
for one in events:
    uid = one["class_uid"]
    if uid not in classes:
        found = schema.get_class_schema(schema.lookup_class_name_from_uid(uid), [])
        Draft202012Validator.check_schema(found)
        classes[uid] = Draft202012Validator(found)
    wrong = [f"{list(error.absolute_path)}: {error.message}" for error in classes[uid].iter_errors(one)]
    assert not wrong, (one["metadata"]["event_code"], wrong)
assert sorted(classes) == [3002, 3005, 6003], sorted(classes)
shown = {one["metadata"]["event_code"] for one in events}
assert shown >= {record["type"] for record in parsed}, shown
print(f"exports: {len(events)} events of {len(shown)} types are valid by OCSF 1.5.0")

documents = read("ecs")
of_host = [one for one in documents if one["lockdownd"]["source"] == "/stacks/web/hosts/i-1"]
of_host = list({one["event"]["id"]: one for one in of_host}.values())
of_host.sort(key=lambda one: one["event"]["sequence"])
assert [one["event"]["original"] for one in of_host] == lines
with open(os.path.join(DIR, "for-logstash"), "w") as file:
    file.writelines(f"{one['event']['severity']} {line}\n" for one, line in zip(of_host, lines))
with open(os.path.join(DIR, "documents.ts"), "w") as file:
    file.write('import type { Ecs } from "@elastic/ecs";\n')
    for number, one in enumerate(documents):
        standard = {name: value for name, value in one.items() if name != "lockdownd"}
        file.write(f"export const d{number}: Ecs = {json.dumps(standard)};\n")
with open(os.path.join(DIR, "without-the-servers-own"), "w") as file:
    for one in of_host:
        del one["related"], one["event"]["ingested"]
        file.write(json.dumps(one) + "\n")
print(f"exports: {len(documents)} documents to be held against ECS")
