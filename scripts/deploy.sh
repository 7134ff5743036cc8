# shellcheck shell=sh
# What `./dev test deploy` and `./dev test install` do: the files of deploy/ and install.sh, with real programs behind them
# where this machine can. Sourced by `dev`, whose functions and variables it uses.
# shellcheck disable=SC2154,SC2034 # variables of dev

# Adds to `missing` what Debian has of it.
need_deploy_tools() {
    have systemd-analyze || missing="$missing systemd"
    have curl || missing="$missing curl"
    have openssl || missing="$missing openssl"
    have promtool || missing="$missing prometheus"
    have amtool || missing="$missing prometheus-alertmanager"
    have docker-compose || missing="$missing docker-compose"
    have go || missing="$missing golang-go"
    [ -d /usr/share/gocode/src/github.com/Masterminds/sprig ] || missing="$missing golang-github-masterminds-sprig-dev"
    have valkey-server || have redis-server || missing="$missing redis-server"
    for module in yaml jsonschema seccomp; do
        /usr/bin/python3 -c "import $module" 2>/dev/null || missing="$missing python3-$module"
    done
}

# Installs the rest from PyPI by hash, once for all checkouts of this user.
install_deploy_tools() {
    pinned=$root/scripts/deploy.txt
    deploy_tools=${XDG_CACHE_HOME:-$HOME/.cache}/ztna/tools/deploy-$(sha256sum "$pinned" | cut -c 1-16)
    [ ! -e "$deploy_tools/.installed" ] || return 0
    rm -rf "$deploy_tools"
    quietly "pip install the tools of scripts/deploy.txt" python3 -m pip install --disable-pip-version-check --no-deps \
        --only-binary=:all: --require-hashes --requirement "$pinned" --target "$deploy_tools" ||
        die "cannot install the tools of scripts/deploy.txt from PyPI; check the network and start again"
    : >"$deploy_tools/.installed"
}

# run_deploy_checks WHAT [MODULE…]
run_deploy_checks() {
    title=$1
    shift
    install_deploy_tools
    build_programs
    step "$title"
    counts=$(as_root env ZTNA_PROGRAMS="$programs" ZTNA_DEPLOY_TOOLS="$deploy_tools" \
        ${ZTNA_POSTGRES_BIN:+"ZTNA_POSTGRES_BIN=$ZTNA_POSTGRES_BIN"} \
        /usr/bin/python3 deploy/checks/run.py "$@") || true
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
}

area_deploy() { run_deploy_checks "the files of deploy/, and what runs with them"; }

area_install() { run_deploy_checks "install.sh, against a real control plane that serves releases" install_tests; }
