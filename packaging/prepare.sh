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

# Whether there is a cargo that is new enough for this work tree. Debian's rustup has one that does not work before a
# toolchain is chosen.
cargo_will_do() {
    local wanted has
    wanted="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)"
    has="$(as_builder cargo --version 2>/dev/null | cut -d ' ' -f 2)" && [ -n "$has" ] &&
        [ "$(printf '%s\n' "$wanted" "$has" | sort -V | head -n 1)" = "$wanted" ]
}

# sudo resets PATH: look where rustup puts cargo, first for the builder, then for root. Where there is none that will do,
# Debian's rustup brings one, from Debian 13 on.
find_cargo() {
    local home
    for home in "$(home_of "$builder")" /root "$(home_of "${SUDO_USER:-root}")"; do
        if [ -x "$home/.cargo/bin/cargo" ]; then
            export CARGO_HOME="${CARGO_HOME:-$home/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
            export PATH="$CARGO_HOME/bin:$PATH"
            break
        fi
    done
    # What `cargo install` installs is found there.
    PATH="${CARGO_HOME:-$(home_of "$builder")/.cargo}/bin:$PATH"
    cargo_will_do && return
    if apt_has rustup; then
        echo "installing Rust by Debian's rustup, for $builder" >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends rustup
        as_builder rustup default stable
        cargo_will_do && return
    fi
    cat >&2 <<-END
	no cargo that is new enough was found, in PATH or in the .cargo/bin of $builder or root, and this system's packages have
	none. As $builder, this installs one:
	    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y
	END
    exit 1
}

# Whether apt could install a package.
apt_has() {
    apt-get update -qq || true
    apt-cache policy "$1" | grep -q '^  Candidate: [^(]'
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

# Installs the Debian packages that are missing for each of: build, instance, check, chef, fuzz, pages, bench, postgresql.
need_packages() {
    local wanted=() missing=() purpose package
    for purpose in "$@"; do
        case "$purpose" in
        build) wanted+=(dpkg-dev gcc libc6-dev) ;;
        instance)
            wanted+=(debian-archive-keyring dropbear-bin e2fsprogs gpg gpg-agent iproute2 jq kmod mmdebstrap mount openssh-client systemd-container util-linux)
            ;;
        check) wanted+=(lintian shellcheck) ;;
        chef) wanted+=(ansible-core cloud-init rubocop ruby ruby-chef-utils ruby-erubis) ;;
        fuzz)
            wanted+=(curl jq openssh-client python3 python3-venv ruby)
            # Node.js from elsewhere brings its own.
            command -v npm >/dev/null || wanted+=(npm)
            ;;
        pages)
            wanted+=(chromium)
            command -v npm >/dev/null || wanted+=(npm)
            ;;
        bench) wanted+=(python3) ;;
        postgresql) wanted+=(postgresql) ;;
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

# Installs those of the given cargo subcommands that are missing. Unoptimised, and without what a debugger would read: they work
# for seconds and would build for minutes.
need_cargo_tools() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null ||
            as_builder env CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --locked --debug "$tool"
    done
}
