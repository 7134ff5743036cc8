# shellcheck shell=sh
# What `./dev test web` does, and the build of the dashboard that `./dev up` serves. Sourced by `dev`, whose
# functions and variables it uses.
# shellcheck disable=SC2154 # variables of dev

# Runs a script of web/package.json.
# web SCRIPT [ARGUMENT…]
web() (
    cd "$root/web" || exit
    # shellcheck disable=SC2086 # a command with its argument
    NO_COLOR=1 FORCE_COLOR=0 $npm run --silent "$@"
)

# Debian has the browser under this name; elsewhere one may be named.
install_browser() {
    for browser in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
        CHROMIUM=$(command -v "${browser:-/none/x}" || true)
        export CHROMIUM
        # What Ubuntu has under this name only says where to get one.
        [ -z "$CHROMIUM" ] || ! "$CHROMIUM" --version >/dev/null 2>&1 || return 0
    done
    if ! apt-cache show chromium 2>/dev/null | grep -q '^Version: [0-9.]*-' || ! can_be_root; then
        die "a browser is needed: install Chromium or Chrome, and name its program if it is not found: CHROMIUM=/path/to/it"
    fi
    step "Installing Chromium"
    install_without_starting chromium fonts-liberation || die "apt-get could not install chromium"
    CHROMIUM=$(command -v chromium)
}

# Builds web/dist, unless it is newer than what it is made of.
build_dashboard() {
    install_packages web
    stamp=web/dist/.vite/manifest.json
    newer=$(find web/src web/public web/scripts web/index.html web/package-lock.json web/vite.config.ts \
        -newer "$stamp" 2>/dev/null | head -n 1)
    [ ! -e "$stamp" ] || [ -n "$newer" ] || return 0
    quietly "building the dashboard" web build || die "the dashboard could not be built"
}

# Runs tests that tell how many passed and failed, and adds their counts to ours.
# counted NAME COMMAND…
counted() {
    name=$1
    step "$name"
    shift
    log=$(mktemp)
    status=0
    "$@" >"$log" 2>&1 </dev/null || status=$?
    # vitest: `Tests  1 failed | 86 passed (87)`. Playwright: `1 failed`, `18 passed (3.1m)`, on lines of their own.
    counts=$(awk '
        /^ *Tests / || /^ *[0-9]+ (passed|failed|flaky|did not run)/ {
            for (at = 2; at <= NF; at++) {
                if ($at ~ /^passed/) p += $(at - 1)
                if ($at ~ /^(failed|flaky|did)/) f += $(at - 1)
            }
        }
        END { print p + 0, f + 0 }' "$log")
    ok=${counts% *}
    bad=${counts#* }
    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    [ $((ok + bad)) -gt 0 ] || bad=1
    [ "$bad" -eq 0 ] || tail -n 150 "$log" >&2
    # vitest: `FAIL  FILE > TITLE`. Playwright, behind its counts: `    tests/FILE:LINE:COLUMN › TITLE ───`.
    sed -n -e 's/^ *FAIL *//p' -e 's/^    \(tests\/[^─]*\).*/\1/p' "$log" >"$log.failed"
    add_counts "$name" "$ok" "$bad" <"$log.failed"
    say "  $ok passed, $bad failed"
    rm -f "$log" "$log.failed"
}

area_web() {
    build_programs
    check "dashboard: Biome" web lint >&2
    counted "dashboard: vitest" web test
    # With the compiler's check, and the budget of the first load.
    before=$failed
    check "dashboard: types, build, size" quietly "building the dashboard" web build
    [ "$failed" -gt "$before" ] || counted "dashboard: browser" env ZTNA_PROGRAMS="$programs" \
        "$root/web/node_modules/.bin/playwright" test --config "$root/web/playwright.config.ts"
}
