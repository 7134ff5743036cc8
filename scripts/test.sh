# shellcheck shell=sh
# `./dev test` and `./dev lint`: how checks are counted, the areas rust and lab, and what is told at the end. Sourced
# by `dev`, whose functions and variables it uses.
# shellcheck disable=SC2154 # variables of dev

passed=0
failed=0
times=
# What failed, a line each, for the end of the output.
failures=

# Notes one check that failed: failing NAME
failing() {
    failed=$((failed + 1))
    failures="$failures
  ✘ $1"
}

# Notes one check's result: check NAME COMMAND…
check() {
    name=$1
    step "$name"
    shift
    if "$@"; then passed=$((passed + 1)); else failing "$name"; fi
}

# Adds the counts of a suite to ours, and the names of those that failed, a line each on standard input.
# add_counts SUITE PASSED FAILED
add_counts() {
    passed=$((passed + $2))
    [ "$3" -gt 0 ] || return 0
    failed=$((failed + $3))
    names=$(head -n 50 | while IFS= read -r line; do [ -z "$line" ] || echo "  ✘ $1: $line"; done)
    failures="$failures
${names:-  ✘ $1: see above}"
}

# Adds Cargo's counts to ours. A suite that was not run at all, because it does not compile, counts
# as one failure.
run_cargo_tests() {
    step "cargo test"
    if ! build "building the tests" test --workspace --locked --no-run; then
        failing "the tests do not compile"
        return
    fi
    log=$(mktemp)
    status=0
    cargo test --workspace --locked --no-fail-fast >"$log" 2>&1 || status=$?
    counts=$(awk '/^test result:/ { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log")
    suites_passed=${counts% *}
    suites_failed=${counts#* }
    if [ "$status" -ne 0 ]; then
        # Without what passed, the programs' own logs and backtraces: what is left says what failed.
        grep -vE '^(test .* \.\.\. ok|running [0-9]+ tests?|test result: ok.*| *Running .*|)$|^20[^ ]+ +(INFO|DEBUG) |^ +([0-9]+: |at )' \
            "$log" | tail -n 200 >&2
        [ "$suites_failed" -gt 0 ] || suites_failed=1
    fi
    sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log" >"$log.failed"
    add_counts "cargo test" "$suites_passed" "$suites_failed" <"$log.failed"
    say "  $suites_passed passed, $suites_failed failed"
    rm -f "$log" "$log.failed"
}

lint() {
    check "cargo fmt" cargo fmt --all --check
    check "cargo fmt (bench)" cargo fmt --all --manifest-path bench/Cargo.toml --check
    check "cargo fmt (fuzz)" cargo fmt --manifest-path fuzz/Cargo.toml --check
    check "cargo clippy" build clippy clippy --workspace --all-targets --locked -- -D warnings
    if have shellcheck; then
        check "shellcheck" shellcheck -x dev install.sh scripts/*.sh deploy/*/*.sh .ci/run
    else
        say "  shellcheck is not installed: scripts are not checked"
    fi
}

area_rust() {
    lint
    run_cargo_tests
    # The licences and bans of what is built are held by a test; cargo-deny looks at every platform.
    if [ -n "$full" ]; then
        check "cargo deny" cargo deny --locked check
        check "building the fuzz targets" build_fuzz
        for name in $(fuzz_targets); do
            check "fuzz $name" fuzz_target "$name" 30 >&2
        done
    elif have cargo-deny; then
        check "cargo deny" cargo deny --locked --offline check bans licenses sources
    fi
}

area_lab() {
    build_programs
    records=$(mktemp)
    lab_program run --json >"$records" || true
    ok=$(grep -c '"ok": true' "$records" || true)
    bad=$(grep -c '"ok": false' "$records" || true)
    [ $((ok + bad)) -gt 0 ] || bad=1
    # A record begins with its name and whether all was well; its error comes last.
    awk -F '"' '
        $2 == "name" { name = $4 }
        $2 == "ok" { bad = /false/ }
        $2 == "error" && bad { sub(/^ *"error": /, ""); sub(/,$/, ""); print name ": " $0 }' "$records" >"$records.failed"
    add_counts lab "$ok" "$bad" <"$records.failed"
    rm -f "$records" "$records.failed"
}

cmd_test() {
    full=
    areas=
    for argument; do
        case $argument in
        --full) full=1 ;;
        rust | proofs | deploy | install | lab | web | cross) areas="$areas $argument" ;;
        *) die "no area \`$argument\`; there are: rust, proofs, deploy, install, lab, web, cross" ;;
        esac
    done
    if [ -z "$areas" ]; then
        areas="rust proofs deploy install lab web"
        if ! can_be_root; then
            say "dev: not root: the areas deploy, install and lab are left out; sudo ./dev test deploy install lab runs them"
            areas="rust proofs web"
        fi
        [ -z "$full" ] || areas="$areas cross"
    fi
    kinds=build
    case $areas in *lab* | *deploy* | *install*)
        can_be_root || die "the areas deploy, install and lab make network namespaces, which needs root: sudo ./dev test deploy install lab"
        kinds="$kinds network"
        ;;
    esac
    case $areas in *deploy* | *install*) kinds="$kinds deploy" ;; esac
    case $areas in *rust*) kinds="$kinds clients" ;; esac
    case $areas in *proofs*) kinds="$kinds proofs" ;; esac
    case $areas in *cross*) kinds="$kinds cross" ;; esac
    case $areas in *web*)
        kinds="$kinds browser"
        # Its hosts with agents are namespaces.
        ! is_root || kinds="$kinds network"
        ;;
    esac
    install "$kinds"
    case $areas in *rust*) install_schemathesis ;; esac
    [ -z "$full" ] || have cargo-deny || die "--full needs cargo-deny: cargo install --locked cargo-deny"
    for area in $areas; do
        began=$(date +%s)
        "area_$area"
        times="$times  $area $(($(date +%s) - began)) s"
    done
    say "times:$times"
    tell_result
}

# The last lines: what failed, and the counts.
tell_result() {
    [ -z "$failures" ] || say "failed:$failures"
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
}

cmd_lint() {
    install build
    lint
    tell_result
}

