#!/bin/sh
# A client of compliance-api in curl: posts an application's logins, reads what they are evidence of.
# docs/COMPLIANCE_API.md has the protocol.
#
#   COMPLIANCE_API=https://compliance.example.com  COMPLIANCE_TOKEN=ca_client_…
#   compliance_client.sh login portal u-1027 accepted [ID [TIME]]       the same ID and TIME again are stored once
#   COMPLIANCE_TOKEN=ca_auditor_…
#   compliance_client.sh requirements [from=2026-11-01] [to=2026-12-01] [stack=web] [framework=hipaa]
#   compliance_client.sh requirement '164.312(d)' [from=…] [to=…]
#   compliance_client.sh artifacts [requirement='164.312(d)'] [person=frank] …       one a line, all of them
set -eu

url=${COMPLIANCE_API:-http://127.0.0.1:8448}
: "${COMPLIANCE_TOKEN:?set COMPLIANCE_TOKEN to a token of yours}"

# The token goes in by a file descriptor: arguments can be seen by everybody on this machine.
# --retry sends the same bytes again on 408, 429, 500, 502, 503 and 504, after Retry-After where that is given.
ask() {
    printf 'Authorization: Bearer %s\n' "$COMPLIANCE_TOKEN" |
        curl --silent --show-error --fail-with-body --header @- \
            --retry 5 --retry-connrefused --connect-timeout 10 ${COMPLIANCE_CA:+--cacert "$COMPLIANCE_CA"} "$@"
}

# name=value words as encoded parameters of a query.
read_with() {
    path=$1
    shift
    count=$#
    while [ "$count" -gt 0 ]; do
        set -- "$@" --data-urlencode "$1"
        shift
        count=$((count - 1))
    done
    ask --get "$@" "$url$path"
}

# What may stand between quotes in JSON as it is.
plain() {
    case $1 in
    '' | *[!A-Za-z0-9._@+-]*)
        echo "compliance_client.sh: $1: letters, digits and . _ @ + - alone" >&2
        exit 2
        ;;
    esac
}

command=${1:-}
[ "$#" = 0 ] || shift
case $command in
login)
    client=$1 user=$2 result=$3 id=${4:-$(cat /proc/sys/kernel/random/uuid)}
    for word in "$client" "$user" "$result" "$id"; do plain "$word"; done
    # With an ID of the caller's and no TIME it is when the server receives it: the same again is then the same.
    time=${5:-}
    [ -n "${4:-}" ] || time=$(date -u +%Y-%m-%dT%H:%M:%SZ)
    case $time in *[!0-9TZ:.+-]*) echo "compliance_client.sh: $time: a time as 2026-11-01T12:00:00Z" >&2 && exit 2 ;; esac
    batch=$(printf '[{"specversion":"1.0","id":"%s","source":"/clients/%s","type":"app.authentication",%s%s}]' \
        "$id" "$client" "${time:+"\"time\":\"$time\","}" \
        "\"datacontenttype\":\"application/json\",\"data\":{\"user\":\"$user\",\"result\":\"$result\"}")
    ask --header 'Content-Type: application/cloudevents-batch+json' --data-binary "$batch" "$url/v1/artifacts"
    ;;
requirements)
    read_with /v1/requirements "$@"
    ;;
requirement)
    id=$(printf %s "$1" | sed 's/(/%28/g; s/)/%29/g')
    shift
    read_with "/v1/requirements/$id" "$@"
    ;;
artifacts)
    set -- "$@"
    path=/v1/artifacts
    count=$#
    while [ "$count" -gt 0 ]; do
        set -- "$@" --data-urlencode "$1"
        shift
        count=$((count - 1))
    done
    ask --header 'Accept: application/x-ndjson' --no-buffer --get "$@" "$url$path"
    ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
