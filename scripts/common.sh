# shellcheck shell=sh
# What scripts/demo and scripts/test share. Sourced, not run; the caller is in the repository.

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

# need_commands COMMAND:PACKAGE…: installs the package of every command that is missing.
need_commands() {
    packages=
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || packages="$packages ${pair#*:}"
    done
    if [ -z "$packages" ]; then
        echo "      everything is there"
        return
    fi
    command -v apt-get >/dev/null 2>&1 ||
        fail "these are missing, and there is no apt-get to install them:$packages"
    is_root || fail "these are missing; as root: apt-get install$packages"
    echo "      apt-get install$packages"
    # A list of packages is fetched only if the present one does not do. iperf3 would ask a question.
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # A list of words.
    apt-get install -y -qq --no-install-recommends $packages >/dev/null 2>&1 || {
        apt-get update -qq || fail "apt-get update failed"
        apt-get install -y -qq --no-install-recommends $packages >/dev/null ||
            fail "apt-get install$packages failed"
    }
}

# want_commands COMMAND:PACKAGE…: as need_commands, but goes on without what cannot be had.
want_commands() {
    (need_commands "$@") || echo "      the tests that need it are skipped"
}

# unpack_commands COMMAND:PACKAGE…: as need_commands, but unpacks the packages below target/tools, where they are found
# by PATH, and installs nothing: for what would bring a service with it. The package alone must do.
unpack_commands() {
    tools=$(realpath -m "${CARGO_TARGET_DIR:-target}")/tools
    PATH="$PATH:$tools/usr/bin"
    for pair in "$@"; do
        command -v "${pair%%:*}" >/dev/null 2>&1 && continue
        command -v apt-get >/dev/null 2>&1 || return 0
        echo "      unpack ${pair#*:} in $tools"
        mkdir -p "$tools"
        (
            cd "$tools" || exit 1
            apt-get download -qq "${pair#*:}" >/dev/null 2>&1 || {
                apt-get update -qq && apt-get download -qq "${pair#*:}" >/dev/null 2>&1
            } || exit 1
            dpkg -x "${pair#*:}"_*.deb . && rm "${pair#*:}"_*.deb
        ) || echo "      ${pair#*:} cannot be had: the tests that need it are skipped"
    done
}

# Finds cargo, and refuses one that is too old for this source.
need_cargo() {
    [ -d "$HOME/.cargo/bin" ] && PATH="$PATH:$HOME/.cargo/bin"
    how="install Rust from https://rustup.rs:
    apt-get install -y curl
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default
then open a new shell and start this again"
    command -v cargo >/dev/null 2>&1 || fail "there is no cargo; $how"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
    present=$(rustc --version | cut -d ' ' -f 2)
    older=$(printf '%s\n%s\n' "$wanted" "$present" | sort -V | head -n 1)
    [ "$older" = "$wanted" ] ||
        fail "Rust $present is too old, $wanted is needed: rustup update, or $how"
}
