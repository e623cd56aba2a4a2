#!/bin/sh
# Verifies an unpacked case file with jq, sha256sum and ssh-keygen alone:
#
#     tar xf case.tar && sh case/verify.sh SERVER_SIGNERS
#
# SERVER_SIGNERS has a line "server KEY" for each key of the server's (GET /v1/server), from a place that you trust. Take this
# script from there too: whoever can change a case can change the copy in it. Each record takes some milliseconds; `lockdown verify`
# says the same, and more, in a moment. Exit status 1 if anything is off.
set -eu
LC_ALL=C
export LC_ALL
given=${1:-}
case $given in
'' | /*) ;;
*) given=$PWD/$given ;;
esac
cd "${2:-$(dirname "$0")}"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
wrong=0
records=0
bad() {
    echo "WRONG: $*"
    wrong=$((wrong + 1))
}
# signed NAMESPACE PRINCIPAL SIGNERS: whether $tmp/sig is over standard input.
signed() {
    ssh-keygen -q -Y verify -n "$1" -I "$2" -f "$3" -s "$tmp/sig" >/dev/null 2>&1
}
sum() {
    sha256sum | cut -d ' ' -f 1
}

# The manifest, and every file that it lists; no other.
keys=$given
if [ -z "$keys" ]; then
    echo "note: no key was given, so the one in the case is taken: it shows that the case is whole, not whose it is"
    keys=server_signers
fi
for file in manifest.json manifest.json.sig; do
    [ -f "$file" ] && [ ! -L "$file" ] || { bad "$file is missing"; exit 1; }
done
cp manifest.json.sig "$tmp/sig"
signed ssh-access-case server "$keys" <manifest.json || bad "manifest.json is not signed by the server's key"
if ! jq -e '([.files[].name] | length == (unique | length) and all(test("^[A-Za-z0-9._/-]+$") and (contains("..") or startswith("/") | not)))
        and ([.ledgers[] | (.ledger | test("^[0-9a-f]{32}$")) and (.name | test("[[:cntrl:]]") | not)] | all)' manifest.json >/dev/null; then
    bad "manifest.json has names that no case file has"
    exit 1
fi
jq -r '.files[] | "\(.sha256)  \(.name)"' manifest.json >"$tmp/sums"
sha256sum --strict -c --quiet "$tmp/sums" >"$tmp/out" 2>/dev/null || true
while IFS= read -r line; do bad "${line%%:*} is missing, or is not as the server signed it"; done <"$tmp/out"
find . ! -type d | sed 's|^\./||' | sort >"$tmp/here"
{ jq -r '.files[].name' manifest.json; echo manifest.json; echo manifest.json.sig; } | sort >"$tmp/listed"
comm -23 "$tmp/here" "$tmp/listed" >"$tmp/added"
while IFS= read -r name; do bad "$name was added: the manifest does not list it"; done <"$tmp/added"
comm -13 "$tmp/here" "$tmp/listed" >"$tmp/gone"
while IFS= read -r name; do bad "$name is missing"; done <"$tmp/gone"

# Each run of each ledger: number after number, each with the hash of the line before.
run() {
    ledger=$1 first=$2 last=$3 hash=$4
    info=$(jq -c --arg id "$ledger" '.ledgers[] | select(.ledger == $id) | {kind, name}' manifest.json)
    name=$(printf '%s' "$info" | jq -r .name)
    kind=$(printf '%s' "$info" | jq -r .kind)
    end=entries
    [ "$kind" != host ] || end=jsonl
    jq -r --arg id "$ledger" --arg ext "$end" --argjson first "$first" --argjson last "$last" '.files[].name
        | capture("^ledgers/(?<id>[0-9a-f]+)/(?<a>[0-9]{16})-(?<b>[0-9]{16})[.](?<ext>[a-z]+)$")
        | select(.id == $id and .ext == $ext and (.a | tonumber) >= $first and (.b | tonumber) <= $last)
        | "ledgers/\(.id)/\(.a)-\(.b)"' manifest.json >"$tmp/parts"
    : >"$tmp/run"
    : >"$tmp/data"
    while IFS= read -r part; do
        cat "$part.$end" >>"$tmp/run" || bad "$part.$end is missing"
        [ "$kind" = host ] || cat "$part.data" >>"$tmp/data" || bad "$part.data is missing"
    done <"$tmp/parts"
    jq -cS . "$tmp/run" 2>/dev/null | cmp -s - "$tmp/run" || { bad "ledger $ledger: lines that are not in canonical form"; return 0; }
    jq -r '"\(.seq) \(.prev) \(.ledger)"' "$tmp/run" >"$tmp/heads"
    seq=$first prev=
    while IFS= read -r line && read -r number before id <&3; do
        if [ "$number" != "$seq" ] || [ "$id" != "$ledger" ] || { [ -n "$prev" ] && [ "$prev" != "$before" ]; }; then
            bad "ledger $ledger: the chain is broken at record $seq"
            return 0
        fi
        prev=$(printf '%s\n' "$line" | sum)
        seq=$((seq + 1))
    done <"$tmp/run" 3<"$tmp/heads"
    if [ "$seq" != $((last + 1)) ] || [ "$prev" != "$hash" ]; then
        bad "ledger $ledger: it does not end with the record that the manifest names"
    fi
    records=$((records + seq - first))
    if [ "$kind" = host ]; then own_lines; else kept_lines; fi
}
# The last signature covers all before it; a change of key is signed with the key before.
own_lines() {
    { jq -c 'select(.type == "key.rotated")' "$tmp/run"; tail -n 1 "$tmp/run"; } >"$tmp/signed"
    while IFS= read -r line; do
        printf '%s\n' "$line" | jq -j .signature >"$tmp/sig"
        printf '%s\n' "$line" | jq -cjS 'del(.signature)' >"$tmp/message"
        signed ssh-access-record "$name" signers <"$tmp/message" ||
            bad "ledger $ledger of $name: the signature of record $(printf '%s\n' "$line" | jq .seq) does not hold"
    done <"$tmp/signed"
}
kept_lines() {
    jq -r .data_sha256 "$tmp/run" >"$tmp/wanted"
    while IFS= read -r line; do printf '%s' "$line" | sum; done <"$tmp/data" >"$tmp/found"
    cmp -s "$tmp/wanted" "$tmp/found" || bad "ledger $ledger of $name: data that the chain is not over"
}
# What the server signed about it then: a receipt, or the checkpoint.
named() {
    if [ "$2" -ge "$first" ] && [ "$2" -le "$last" ]; then
        [ "$(sed -n "$(($2 - first + 1))p" "$tmp/run" | sum)" = "$3" ] ||
            bad "ledger $ledger: record $2 is not the one that $1 of the server's names"
    fi
}
receipts() {
    while IFS= read -r line; do
        printf '%s\n' "$line" | jq -j .signature >"$tmp/sig"
        printf '%s\n' "$line" | jq -cjS 'del(.signature)' >"$tmp/message"
        signed ssh-access-receipt server "$keys" <"$tmp/message" || bad "ledger $ledger: a receipt's signature does not hold"
        [ "$(jq -r .ledger "$tmp/message")" = "$ledger" ] || bad "ledger $ledger: a receipt over another ledger"
        named "a receipt" "$(jq .seq "$tmp/message")" "$(jq -r .hash "$tmp/message")"
    done <"ledgers/$ledger/receipts"
}
# The bytes of a hash in hex, for printf.
bytes() {
    jq -rn --arg hex "$1" 'def digit: . as $c | "0123456789abcdef" | index($c);
        [range(0; 64; 2) as $i | ($hex[$i:$i + 1] | digit) * 16 + ($hex[$i + 1:$i + 2] | digit)
            | "\\\(. / 64 | floor)\((. / 8 | floor) % 8)\(. % 8)"] | add'
}
proof() {
    file=ledgers/$ledger/proof.json
    jq -j .checkpoint "$file" | cmp -s - checkpoint || bad "ledger $ledger: its proof is about another checkpoint"
    [ "$(jq -r .head.ledger "$file")" = "$ledger" ] || bad "ledger $ledger: its proof is about another ledger"
    found=$({ printf '\000'; jq -cjS .head "$file"; } | sum)
    at=$(jq .index "$file")
    size=$(sed -n 2p checkpoint)
    size=$((size - 1))
    jq -r '.path[]' "$file" >"$tmp/path"
    while IFS= read -r beside; do
        if [ $((at % 2)) = 1 ] || [ "$at" = "$size" ]; then
            found=$({ printf '\001'; printf "$(bytes "$beside")"; printf "$(bytes "$found")"; } | sum)
            while [ $((at % 2)) = 0 ] && [ "$at" != 0 ]; do at=$((at / 2)) size=$((size / 2)); done
        else
            found=$({ printf '\001'; printf "$(bytes "$found")"; printf "$(bytes "$beside")"; } | sum)
        fi
        at=$((at / 2)) size=$((size / 2))
    done <"$tmp/path"
    root=$(jq -rn --arg hex "$found" 'def digit: . as $c | "0123456789abcdef" | index($c);
        def six: "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[.:. + 1];
        [range(0; 64; 2) as $i | ($hex[$i:$i + 1] | digit) * 16 + ($hex[$i + 1:$i + 2] | digit)] + [0]
        | [range(0; 33; 3) as $i | .[$i] * 65536 + .[$i + 1] * 256 + .[$i + 2]
            | (. / 262144 | floor | six) + ((. / 4096 | floor) % 64 | six) + ((. / 64 | floor) % 64 | six) + (. % 64 | six)]
        | add[0:43] + "="')
    [ "$size" = 0 ] && [ "$root" = "$(sed -n 3p checkpoint)" ] || bad "ledger $ledger: its proof does not lead to the checkpoint"
    named "the checkpoint" "$(jq .head.seq "$file")" "$(jq -r .head.hash "$file")"
}
if [ "$wrong" = 0 ]; then
    jq -r '.ledgers[] | .ledger as $id | .runs[] | "\($id) \(.first) \(.last) \(.hash)"' manifest.json >"$tmp/runs"
    while read -r a b c d; do
        run "$a" "$b" "$c" "$d"
        receipts
        [ ! -f "ledgers/$ledger/proof.json" ] || proof
    done <"$tmp/runs"

    # Each document, by the keys that its signatures name: whose they are, a roster says.
    jq -r '.files[].name | select(startswith("documents/"))' manifest.json >"$tmp/documents"
    while IFS= read -r file; do
        jq -j .document "$file" >"$tmp/line"
        id=${file#documents/}
        [ "$(sum <"$tmp/line")" = "${id%.json}" ] || bad "$file is another document than its name says"
        kind=$(jq -r .type "$tmp/line")
        count=$(jq '.signatures | length' "$file")
        while [ "$count" -gt 0 ]; do
            count=$((count - 1))
            jq -j ".signatures[$count]" "$file" >"$tmp/sig"
            ssh-keygen -Y check-novalidate -n "ssh-access-$kind" -s "$tmp/sig" <"$tmp/line" >/dev/null 2>&1 ||
                ssh-keygen -Y check-novalidate -n ssh-access-request -s "$tmp/sig" <"$tmp/line" >/dev/null 2>&1 ||
                bad "$file: a signature does not hold"
        done
    done <"$tmp/documents"
fi
if [ "$wrong" != 0 ]; then
    echo "$wrong wrong"
    exit 1
fi
echo "good: $records records, each in its place, signed by their hosts or kept by the server, and all that the server signed"
