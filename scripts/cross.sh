# shellcheck shell=sh
# What `./dev test cross` does: the agent for Windows and macOS, as far as Linux can check it. Sourced by `dev`, whose
# functions and variables it uses.
# shellcheck disable=SC2154 # variables of dev

WINDOWS=x86_64-pc-windows-gnu
MACOS=aarch64-apple-darwin
# Debian does not put it into PATH.
WINE=/usr/lib/wine/wine64
# What has code of its own for Windows, and what is pure.
WINDOWS_TESTS='-p ztna-agent -p ztna-local -p ztna-proto -p ztna-filter -p ztna-path -p ztna-netmap'
# What Wine is no Windows in: files and pipes have no owners among administrators, some options of sockets are unknown, and
# sockets can be bound to addresses of others. Nor is there a bash.
WINE_CANNOT='--skip daemon::state:: --skip daemon::state_dir:: --skip platform::windows::system::tests::a_private_folder
    --skip transport::windows::tests::one_daemon_has_the_pipe --skip daemon::engine::udp:: --skip daemon::netcheck::
    --skip cli::completion::tests::bash'

# Adds to `missing` what Debian has of it.
need_cross_tools() {
    have x86_64-w64-mingw32-gcc || missing="$missing gcc-mingw-w64-x86-64"
    [ -x "$WINE" ] || missing="$missing wine64"
}

# zig, which stands for Apple's C compiler, and Cargo's way to it; from PyPI by hash.
install_cross_tools() {
    have rustup || die "the area cross needs rustup, which has Rust for other systems: https://rustup.rs"
    quietly "rustup target add" rustup target add "$WINDOWS" "$MACOS" || die "cannot get Rust for $WINDOWS and $MACOS; check the network"
    pinned=$root/scripts/cross/tools.txt
    cross_tools=${XDG_CACHE_HOME:-$HOME/.cache}/ztna/tools/cross-$(sha256sum "$pinned" | cut -c 1-16)
    [ ! -e "$cross_tools/.installed" ] || return 0
    rm -rf "$cross_tools"
    /usr/bin/python3 -m venv "$cross_tools" || die "python3 cannot make a virtual environment; install python3-venv"
    quietly "pip install the tools of scripts/cross/tools.txt" "$cross_tools/bin/pip" install --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes --requirement "$pinned" ||
        die "cannot install the tools of scripts/cross/tools.txt from PyPI; check the network and start again"
    : >"$cross_tools/.installed"
}

# A Windows to run tests in, with what Debian's Wine lacks.
make_wine() {
    WINEPREFIX=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/wine
    WINEDEBUG=-all
    # Nothing is downloaded, and nothing is shown.
    WINEDLLOVERRIDES='mscoree,mshtml='
    DISPLAY=
    export WINEPREFIX WINEDEBUG WINEDLLOVERRIDES DISPLAY
    system=$WINEPREFIX/drive_c/windows/system32
    [ -d "$system" ] || quietly "making a Windows under Wine" "$WINE" wineboot --init || return 1
    x86_64-w64-mingw32-gcc -shared -O1 -o "$system/bcryptprimitives.dll" scripts/cross/processprng.c -ladvapi32
}

macos_check() {
    PATH=$cross_tools/bin:$PATH quietly "checking for macOS" cargo-zigbuild check --target "$MACOS" -p ztna-agent --locked
}

windows_tests() {
    make_wine || return 1
    # shellcheck disable=SC2086 # several options
    CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$WINE quietly "the tests for Windows" \
        cargo test --target "$WINDOWS" --locked $WINDOWS_TESTS --lib -- $WINE_CANNOT
}

area_cross() {
    install_cross_tools
    check "cargo clippy, for Windows" build "clippy for Windows" clippy --target "$WINDOWS" -p ztna-agent --locked -- -D warnings
    check "cargo check, for macOS" macos_check
    check "tests for Windows, under Wine" windows_tests
}
