#!/usr/bin/env python3
"""A client of compliance-api in Python's standard library alone: posts an application's logins, reads what they are
evidence of. Copy what you need; docs/COMPLIANCE_API.md has the protocol.

    export COMPLIANCE_API=https://compliance.example.com
    COMPLIANCE_TOKEN=ca_client_…  compliance_client.py login --client portal --user u-1027 --result accepted
    COMPLIANCE_TOKEN=ca_auditor_… compliance_client.py requirements --from 2026-11-01 --to 2026-12-01
    COMPLIANCE_TOKEN=ca_auditor_… compliance_client.py requirement '164.312(d)'
    COMPLIANCE_TOKEN=ca_auditor_… compliance_client.py artifacts requirement='164.312(d)' from=2026-11-01
"""

import argparse
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from datetime import datetime, timezone

TRIES = 6
TIMEOUT = 30


class Refused(Exception):
    """What the server said no to: `code` for programs, `detail` says what would work."""

    def __init__(self, status, problem):
        super().__init__(f"{status} {problem.get('code', '')}: {problem.get('detail', '')}")
        self.status, self.problem = status, problem


class ComplianceApi:
    def __init__(self, url, token, ca_file=None):
        self.url, self.token = url.rstrip("/"), token
        # Certificates are always checked; ca_file is for an authority of your own.
        self.tls = ssl.create_default_context(cafile=ca_file) if self.url.startswith("https:") else None

    def _open(self, method, path, query=None, body=None, headers=None):
        """Sends a request; again, with the same bytes, when the server is busy or does not answer."""
        url = self.url + path + ("?" + urllib.parse.urlencode(query) if query else "")
        headers = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        wait = 0.5
        for attempt in range(1, TRIES + 1):
            request = urllib.request.Request(url, data=body, headers=headers, method=method)
            try:
                return urllib.request.urlopen(request, timeout=TIMEOUT, context=self.tls)
            except urllib.error.HTTPError as error:
                retry = error.code in (408, 429, 500, 502, 503, 504)
                try:
                    problem = json.load(error)
                except ValueError:
                    problem = {"detail": error.reason}
                if not retry or attempt == TRIES:
                    raise Refused(error.code, problem) from None
                wait = float(error.headers.get("Retry-After") or wait)
            except OSError:
                # No answer says nothing about whether it was stored: the same id and bytes are stored once.
                if attempt == TRIES:
                    raise
            time.sleep(wait)
            wait = min(wait * 2, 30)

    def post(self, client, kind, artifacts):
        """Posts artifacts of one type, each (id, time or None, data). Returns the answer, with the receipt over all so far."""
        batch = [
            {
                "specversion": "1.0",
                "id": ident,
                "source": f"/clients/{client}",
                "type": kind,
                **({"time": moment} if moment else {}),
                "datacontenttype": "application/json",
                "data": data,
            }
            for ident, moment, data in artifacts
        ]
        body = json.dumps(batch, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/cloudevents-batch+json"}
        with self._open("POST", "/v1/artifacts", body=body, headers=headers) as answer:
            return json.load(answer)

    def get(self, path, **query):
        with self._open("GET", path, query={k: v for k, v in query.items() if v is not None}) as answer:
            return json.load(answer)

    def requirement(self, ident, **query):
        return self.get("/v1/requirements/" + urllib.parse.quote(ident, safe=""), **query)

    def artifacts(self, **query):
        """Every artifact that fits, one after the other: however many there are, one is in memory at a time."""
        headers = {"Accept": "application/x-ndjson"}
        with self._open("GET", "/v1/artifacts", query=query, headers=headers) as answer:
            # A connection that breaks off half-way raises: a part is never taken for the whole.
            for line in answer:
                yield json.loads(line)


def now():
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("COMPLIANCE_API", "http://127.0.0.1:8448"))
    parser.add_argument("--ca-file", help="PEM file of the authority that signed the server's certificate")
    commands = parser.add_subparsers(dest="command", required=True)
    login = commands.add_parser("login", help="post one login to an application")
    login.add_argument("--client", required=True, help="the name of the token")
    login.add_argument("--user", required=True, help="the user's unique name, never a password")
    login.add_argument("--result", choices=["accepted", "refused"], required=True)
    login.add_argument("--address", help="from where")
    login.add_argument("--id", default=None, help="unique; the same again is stored once")
    login.add_argument("--time", help="when it was, as 2026-11-01T12:00:00Z; default: now, or with --id when it is received")
    window = argparse.ArgumentParser(add_help=False)
    window.add_argument("--from", dest="from_")
    window.add_argument("--to")
    window.add_argument("--stack")
    listed = commands.add_parser("requirements", parents=[window], help="what there is evidence of")
    listed.add_argument("--framework")
    one = commands.add_parser("requirement", parents=[window], help="one requirement, whole")
    one.add_argument("id")
    found = commands.add_parser("artifacts", help="what fits, one a line")
    found.add_argument("filter", nargs="*", help="as person=frank or requirement=164.312(d)")
    args = parser.parse_args()
    token = os.environ.get("COMPLIANCE_TOKEN")
    if not token:
        parser.error("set COMPLIANCE_TOKEN: a token on the command line can be seen by everybody on this machine")
    api = ComplianceApi(args.url, token, args.ca_file)
    if args.command == "login":
        data = {"user": args.user, "result": args.result}
        if args.address:
            data["address"] = args.address
        moment = args.time or (None if args.id else now())
        answer = api.post(args.client, "app.authentication", [(args.id or str(uuid.uuid4()), moment, data)])
        print(json.dumps(answer, indent=2))
    elif args.command == "requirements":
        query = {"from": args.from_, "to": args.to, "stack": args.stack, "framework": args.framework}
        for r in api.get("/v1/requirements", **query)["requirements"]:
            stale = " STALE" if r["stale"] else ""
            print(f"{r['status']:<10} {r['artifacts']:>9} {r.get('last', '-'):<28} {r['id']:<24} {r['name']}{stale}")
    elif args.command == "requirement":
        query = {"from": args.from_, "to": args.to, "stack": args.stack}
        print(json.dumps(api.requirement(args.id, **query), indent=2))
    else:
        for artifact in api.artifacts(**dict(f.split("=", 1) for f in args.filter)):
            print(json.dumps(artifact, separators=(",", ":"), ensure_ascii=False))


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as error:
        sys.exit(f"compliance_client.py: {error}")
