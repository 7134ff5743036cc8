# shellcheck shell=sh
# Schemathesis, which the control plane's tests call every endpoint with as its OpenAPI document says. A
# tool: nothing of ours links it. Sourced by `dev`, whose functions and variables it uses.
# shellcheck disable=SC2154 # variables of dev

# Oldest Python that it runs on. Where there is none, its test says that it is skipped.
NEED_PYTHON=3.11

# Installs it from PyPI by hash, once for all checkouts of this user. The tests find it by
# ZTNA_SCHEMATHESIS.
install_schemathesis() {
    if ! at_least "$(version_of /usr/bin/python3 --version)" "$NEED_PYTHON"; then
        ZTNA_SCHEMATHESIS=none
        export ZTNA_SCHEMATHESIS
        return 0
    fi
    pinned=$root/scripts/schemathesis.txt
    version=$(sed -n 's/^schemathesis==\([0-9.]*\).*/\1/p' "$pinned")
    tools=${XDG_CACHE_HOME:-$HOME/.cache}/ztna/tools/schemathesis-$version
    ZTNA_SCHEMATHESIS=$tools/bin/schemathesis
    export ZTNA_SCHEMATHESIS
    [ "$(version_of "$ZTNA_SCHEMATHESIS" --version)" != "$version" ] || return 0
    step "Installing Schemathesis $version, once"
    # Where it was made is written into a virtual environment.
    rm -rf "$tools"
    /usr/bin/python3 -m venv "$tools" || die "python3 cannot make a virtual environment; install python3-venv"
    quietly "pip install schemathesis" "$tools/bin/pip" install --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes --requirement "$pinned" ||
        { rm -rf "$tools" && die "cannot install Schemathesis from PyPI; check the network and start again"; }
}
