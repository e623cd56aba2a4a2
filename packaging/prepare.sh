# Sourced, as root, by tests/run and packaging/try, in the work tree's top directory: finds cargo, and says what to
# install. What is built belongs to whoever called sudo, if the work tree is theirs.
# shellcheck shell=bash

builder=root
if [ -n "${SUDO_USER:-}" ] && [ "$(stat -c %U .)" = "$SUDO_USER" ]; then
    builder=$SUDO_USER
fi

home_of() {
    getent passwd "$1" | cut -d: -f6
}

# sudo resets PATH: look where rustup puts cargo, first for the builder, then for root.
find_cargo() {
    local home
    for home in "$(home_of "$builder")" /root "$(home_of "${SUDO_USER:-root}")"; do
        if [ -x "$home/.cargo/bin/cargo" ]; then
            export CARGO_HOME="${CARGO_HOME:-$home/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
            export PATH="$CARGO_HOME/bin:$PATH"
            return
        fi
    done
    command -v cargo >/dev/null || {
        echo "cargo was found neither in PATH nor in the .cargo/bin of $builder or root: install Rust with rustup" >&2
        exit 1
    }
}

# Runs a command as the builder, with the same cargo.
as_builder() {
    if [ "$builder" = root ]; then
        "$@"
    else
        runuser -u "$builder" -- env "HOME=$(home_of "$builder")" "PATH=$PATH" "$@"
    fi
}

# Gives back to the builder what root wrote while it ran tests.
give_back() {
    [ "$builder" = root ] || chown -R --from=root "$builder:" target "${CARGO_HOME:-target}" || true
}

# Installs the Debian packages that are missing for each of: build, instance, check, chef, fuzz, bench.
need_packages() {
    local wanted=() missing=() purpose package
    for purpose in "$@"; do
        case "$purpose" in
        build) wanted+=(dpkg-dev gcc libc6-dev) ;;
        instance)
            wanted+=(debian-archive-keyring dropbear-bin e2fsprogs gpg gpg-agent jq kmod mmdebstrap mount openssh-client systemd-container util-linux)
            ;;
        check) wanted+=(lintian shellcheck) ;;
        chef) wanted+=(ansible-core cloud-init rubocop ruby ruby-chef-utils ruby-erubis) ;;
        fuzz)
            wanted+=(curl jq openssh-client python3 python3-venv ruby)
            # Node.js from elsewhere brings its own.
            command -v npm >/dev/null || wanted+=(npm)
            ;;
        bench) wanted+=(python3) ;;
        esac
    done
    for package in "${wanted[@]}"; do
        if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            missing+=("$package")
        fi
    done
    if [ ${#missing[@]} -gt 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}"
    fi
}

# Installs those of the given cargo subcommands that are missing. Unoptimised: they work for seconds and would build for
# minutes.
need_cargo_tools() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || as_builder cargo install --quiet --locked --debug "$tool"
    done
}
