# shellcheck shell=sh
# What `./dev bench`, `./dev soak` and `./dev fuzz` do. Sourced by `dev`, whose functions and variables
# it uses.
# shellcheck disable=SC2154 # variables of dev

# ── ./dev bench ──────────────────────────────────────────────────────────────────────────────

install_stun_peers() {
    missing=
    have turnserver || missing="$missing coturn"
    have stund || missing="$missing stun-server"
    have ip || missing="$missing iproute2"
    [ -n "$missing" ] || return 0
    have apt-get || die "install these first (no apt-get here):$missing"
    # shellcheck disable=SC2086 # a list of packages
    can_be_root || die "run this first: sudo apt-get update && sudo apt-get install$missing"
    # shellcheck disable=SC2086
    install_without_starting $missing || die "apt-get could not install:$missing"
}

# Release builds of what is measured, and of what measures.
build_bench() {
    step "Building (release)"
    build "building ztna" build --release --locked --package ztna-derp --package ztna-stun ||
        die "the build failed"
    # Another target directory: another Cargo.lock, and a peer's dependencies. That lock follows what
    # our own crates depend on by itself.
    build "building the benchmarks" build --release --manifest-path bench/Cargo.toml \
        --target-dir "$target/bench" || die "the build of the benchmarks failed"
}

cmd_bench() {
    names=
    for argument; do
        case $argument in
        relay | stun) names="$names $argument" ;;
        esac
    done
    # Everything else is the program's to understand, or to refuse.
    case ${1:-} in
    "" | -* | relay | stun) ;;
    *) die "no benchmark \`$1\`; there are: relay, stun" ;;
    esac
    install build
    case $names in "" | *stun*) install_stun_peers ;; esac
    build_bench
    "$target/bench/release/ztna-bench" run "$@" \
        --ztna-derp "$target/release/ztna-derp" --ztna-stun "$target/release/ztna-stun"
}

cmd_soak() {
    [ "${1:-}" = relay ] || die "no soak \`${1:-}\`; there is: relay"
    shift
    install build
    build_bench
    "$target/bench/release/ztna-bench" soak "$@" --ztna-derp "$target/release/ztna-derp"
}

# ── ./dev fuzz ───────────────────────────────────────────────────────────────────────────────

# Coverage that libFuzzer is led by, as `cargo fuzz` sets it. The last: short comparisons are not
# expanded into loads, which the engine would not see.
FUZZ_FLAGS="-Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares \
-Cllvm-args=-max-loads-per-memcmp=0"
# An input that takes longer, in seconds, or more memory, in MiB, is a finding.
FUZZ_TIMEOUT=20
FUZZ_MEMORY=1024

fuzz_targets() {
    for source in fuzz/src/bin/*.rs; do basename "$source" .rs; done
}

fuzz_host() { rustc -vV | sed -n 's/^host: //p'; }

# With the target named, build scripts and macros are built without the counters. The lock follows
# what our own crates depend on by itself.
build_fuzz() (
    export RUSTFLAGS="$FUZZ_FLAGS"
    build "building the fuzz targets" build --release --bins --manifest-path fuzz/Cargo.toml \
        --target "$(fuzz_host)" --target-dir "$target/fuzz"
)

# fuzz_target NAME SECONDS: begins with the seeds and what earlier runs found worth keeping.
fuzz_target() {
    program=$target/fuzz/$(fuzz_host)/release/$1
    corpus=$target/fuzz/corpus/$1
    findings=$target/fuzz/findings/$1
    mkdir -p "$corpus" "$findings"
    log=$(mktemp)
    status=0
    "$program" "$corpus" "fuzz/seeds/$1" -max_total_time="$2" -timeout="$FUZZ_TIMEOUT" \
        -rss_limit_mb="$FUZZ_MEMORY" -artifact_prefix="$findings/" -print_final_stats=1 \
        >"$log" 2>&1 </dev/null || status=$?
    if [ "$status" -ne 0 ]; then
        input=$(sed -n 's/.*Test unit written to //p' "$log" | head -n 1)
        grep -vE '^(#[0-9]|INFO:|WARNING:)' "$log" | tail -n 60 >&2
        say "✘ $1: ${input:-no input was written}"
        [ -z "$input" ] || say "  again: $program $input"
        rm -f "$log"
        return 1
    fi
    edges=$(sed -n 's/.*DONE *cov: \([0-9]*\).*/\1/p' "$log")
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    speed=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    rm -f "$log"
    printf '%-14s %10s executions %8s/s %6s edges\n' "$1" "$runs" "$speed" "$edges"
}

cmd_fuzz() {
    names=
    seconds=60
    while [ $# -gt 0 ]; do
        case $1 in
        --list)
            fuzz_targets
            return
            ;;
        --seconds)
            shift
            seconds=${1:-}
            case $seconds in "" | 0 | *[!0-9]*) die "--seconds needs a number of seconds, 1 or more" ;; esac
            ;;
        -*) die "no option \`$1\`; see ./dev help" ;;
        *)
            [ -f "fuzz/src/bin/$1.rs" ] || die "no fuzz target \`$1\`; ./dev fuzz --list names them"
            names="$names $1"
            ;;
        esac
        shift
    done
    install build
    step "Building with coverage counters"
    build_fuzz || die "the build of the fuzz targets failed"
    for name in ${names:-$(fuzz_targets)}; do
        step "Fuzzing $name for $seconds s"
        if fuzz_target "$name" "$seconds"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    done
    [ "$failed" -eq 0 ] || die "$failed of $((passed + failed)) targets found something; see above"
}
