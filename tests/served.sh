# Sourced by tests/openapi, tests/cloudevents, tests/metrics and tests/exports: a compliance-api to ask, and Python packages to ask it with. Needs
# python3 with venv and curl; packages go to $LOCKDOWND_TESTS_CACHE (/var/cache/lockdownd-tests), nothing to the tree.
# shellcheck shell=bash

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$server" ] || wait "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# venv NAME PACKAGE==VERSION...: prints where it is. Pinned: what a newer one finds should not fail a build that nobody changed.
venv() {
    kept make_venv "$@"
}

make_venv() {
    local dir=$1
    shift
    python3 -m venv "$dir" &&
        "$dir/bin/pip" install --quiet --disable-pip-version-check "$@"
}

# npm_packages NAME PACKAGE@VERSION...: prints the directory whose node_modules has them.
npm_packages() {
    kept install_npm "$@"
}

install_npm() {
    local dir=$1
    shift
    npm install --silent --no-fund --no-audit --ignore-scripts --prefix "$dir" "$@"
}

# kept HOW NAME PACKAGE...: has HOW put them into a directory of this name, unless they are there, and prints which.
kept() {
    local how=$1 dir="${LOCKDOWND_TESTS_CACHE:-/var/cache/lockdownd-tests}/$2"
    shift 2
    if [ "$(cat "$dir/installed" 2>/dev/null)" != "$*" ]; then
        rm -rf "$dir"
        mkdir -p "$dir"
        "$how" "$dir" "$@" >&2 || return
        printf '%s' "$*" > "$dir/installed"
    fi
    printf '%s\n' "$dir"
}

# serve BINARY [CONFIG]: starts it with a state of its own and this beside it in its configuration, and sets $url. Its log is
# $work/log. In tests/with-postgresql it keeps everything there.
serve() {
    local port store=
    binary=$1
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    [ -z "${TEST_STORE:-}" ] || store=$(printf '[store]\nurl = "%s"' "$TEST_STORE")
    printf 'listen = "127.0.0.1:%s"\nstate = "%s/state"\n%s\n[limits]\nconnections_per_address = 64\n%s\n' \
        "$port" "$work" "$store" "${2:-}" > "$work/config.toml"
    "$binary" serve --config "$work/config.toml" 2> "$work/log" &
    server=$!
    url=http://127.0.0.1:$port
    for _ in $(seq 100); do
        ! curl --silent --fail --output /dev/null "$url/healthz" || return 0
        sleep 0.1
    done
    cat "$work/log" >&2
    return 1
}

# token --role ROLE --name NAME: makes one, and prints it.
token() {
    "$binary" --config "$work/config.toml" token create "$@" 2>/dev/null
}
