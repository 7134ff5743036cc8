# shellcheck shell=sh
# What `./dev test deploy`, `./dev test install` and `./dev release` do: the files of deploy/ and install.sh, with real programs behind them
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
    told=$(as_root env ZTNA_PROGRAMS="$programs" ZTNA_DEPLOY_TOOLS="$deploy_tools" \
        ${ZTNA_POSTGRES_BIN:+"ZTNA_POSTGRES_BIN=$ZTNA_POSTGRES_BIN"} \
        /usr/bin/python3 deploy/checks/run.py "$@") || true
    counts=$(echo "${told:-0 1}" | head -n 1)
    add_counts "$title" "${counts% *}" "${counts#* }" <<END
$(echo "$told" | tail -n +2)
END
}

area_deploy() { run_deploy_checks "the files of deploy/, and what runs with them"; }

area_install() {
    run_deploy_checks "install.sh and ztna update, against a real control plane that serves releases; install.ps1, as far as can be here" \
        install_tests update_tests powershell_tests
}

# The agent's version is what its program says, so that a release is never named otherwise.
cmd_release() {
    key='' out=$target/releases rollout=100 program='' files=''
    while [ $# -gt 0 ]; do
        case $1 in
        --key | --out | --rollout | --program)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in
            --key) key=$(from_here "$2") ;;
            --out) out=$(from_here "$2") ;;
            --rollout) rollout=$2 ;;
            --program) program=$(from_here "$2") ;;
            esac
            shift
            ;;
        *=*) files="$files ${1%%=*}=$(from_here "${1#*=}")" ;;
        *) die "no option \`$1\`; see ./dev help" ;;
        esac
        shift
    done
    [ -n "$key" ] || die "--key is missing: the private key that releases are signed with"
    [ -f "$key" ] || die "there is no $key; make one, once, and keep it off the servers:
  openssl ecparam -name prime256v1 -genkey -noout -out $key"
    have openssl || die "openssl is missing, which signs; install it and start again"
    if [ -z "$program" ]; then
        install build
        step "Building ztna (release)"
        build "building ztna" build --release --locked --package ztna-agent || die "the build failed"
        program=$target/release/ztna-stripped
        strip -o "$program" "$target/release/ztna" || die "strip failed; install binutils and start again"
    fi
    version=$("$program" --version | sed -n 's/^ztna //p')
    [ -n "$version" ] || die "$program is no ztna"
    # shellcheck disable=SC2086 # words with no blanks in them: targets, and files of this checkout
    python3 deploy/release.py --key "$key" --out "$out" --version "$version" --rollout "$rollout" \
        "linux-$(uname -m)=$program" $files || exit 1
    say "release $version for $rollout of 100 machines is in $out; serve that folder: ztna-server --releases $out"
}

# A path of the folder that ./dev was started in.
from_here() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac }
