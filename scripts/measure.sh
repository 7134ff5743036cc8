# shellcheck shell=sh
# What `./dev bench`, `./dev soak`, `./dev sim` and `./dev fuzz` do. Sourced by `dev`, whose functions and variables
# it uses.
# shellcheck disable=SC2154 # variables of dev

# ── ./dev bench ──────────────────────────────────────────────────────────────────────────────

# install_tools PROGRAM:PACKAGE…
install_tools() {
    missing=
    for tool; do
        have "${tool%:*}" || missing="$missing ${tool#*:}"
    done
    [ -n "$missing" ] || return 0
    have apt-get || die "install these first (no apt-get here):$missing"
    # shellcheck disable=SC2086 # a list of packages
    can_be_root || die "run this first: sudo apt-get update && sudo apt-get install$missing"
    # shellcheck disable=SC2086
    install_without_starting $missing || die "apt-get could not install:$missing"
}

# Benchmarks are a workspace of their own, with a target directory of its own: another Cargo.lock, and
# peers' dependencies. That lock follows what our own crates depend on by itself.
# build_bench PACKAGE
build_bench() {
    step "Building $1 (release)"
    build "building $1" build --release --manifest-path bench/Cargo.toml --package "$1" \
        --target-dir "$target/bench" || die "the build of the benchmarks failed"
}

build_services() {
    step "Building ztna (release)"
    build "building ztna" build --release --locked --package ztna-derp --package ztna-stun ||
        die "the build failed"
}

# One function for each program that measures; its arguments are names of benchmarks, and options.

STUN_PEERS="turnserver:coturn stund:stun-server ip:iproute2"

# shellcheck disable=SC2086 # a list of tools
bench_services() {
    case " $* " in
    *" stun "*) install_tools $STUN_PEERS ;;
    *" relay "*) ;;
    *) install_tools $STUN_PEERS ;;
    esac
    build_services
    build_bench ztna-bench
    "$target/bench/release/ztna-bench" run "$@" \
        --ztna-derp "$target/release/ztna-derp" --ztna-stun "$target/release/ztna-stun"
}

bench_micro() {
    build_bench ztna-bench-micro
    "$target/bench/release/ztna-bench-micro" run "$@"
}

install_tunnel_peers() {
    install_tools ip:iproute2 ping:iputils-ping curl:curl iperf3:iperf3 wg:wireguard-tools \
        wireguard-go:wireguard-go nebula:nebula
    for peer in boringtun-cli@0.7.1 gotatun-cli@0.10.2; do
        build "building $peer" install --quiet --locked --root "$target/bench/peers" \
            --target-dir "$target/bench/peers/build" "$peer" || die "cargo could not install $peer"
    done
}

build_platform() {
    step "Building ztna (release)"
    build "building ztna" build --release --locked --package ztna-agent --package ztna-server ||
        die "the build failed"
    build_bench ztna-bench-tunnel
}

bench_memory() {
    install_tools ip:iproute2 curl:curl
    build_platform
    "$target/bench/release/ztna-bench-tunnel" memory --ztna "$target/release" "$@"
}

bench_tunnel() {
    install_tunnel_peers
    build_platform
    build_bench ztna-bench-null
    "$target/bench/release/ztna-bench-tunnel" --ztna "$target/release" \
        --null "$target/bench/release/ztna-bench-null" \
        --boringtun "$target/bench/peers/bin/boringtun-cli" \
        --gotatun "$target/bench/peers/bin/gotatun" "$@"
}

bench_control() {
    have valkey-server || install_tools redis-server:redis-server
    step "Building ztna (release)"
    build "building ztna" build --release --locked --package ztna-api || die "the build failed"
    build_bench ztna-bench-control
    "$target/bench/release/ztna-bench-control" run --ztna-api "$target/release/ztna-api" "$@"
}

BENCHMARKS="relay, stun, filter, handshake, mesh, memory, tunnel, control"

# Which program has a benchmark; nothing if none has.
bench_program() {
    case $1 in
    relay | stun) echo services ;;
    filter | handshake | mesh) echo micro ;;
    tunnel | memory | control) echo "$1" ;;
    esac
}

# bench_one PROGRAM ARGUMENT…: without the names of other programs' benchmarks.
bench_one() {
    program=$1
    shift
    left=$#
    while [ "$left" -gt 0 ]; do
        of=$(bench_program "$1")
        [ "${of:-$program}" != "$program" ] || set -- "$@" "$1"
        shift
        left=$((left - 1))
    done
    "bench_$program" "$@"
}

# Everything that is no name is the programs' to understand, or to refuse.
cmd_bench() {
    case ${1:-} in
    "" | -*) ;;
    *) [ -n "$(bench_program "$1")" ] || die "no benchmark \`$1\`; there are: $BENCHMARKS" ;;
    esac
    chosen=
    json=
    for argument; do
        [ "$argument" != --json ] || json=1
        of=$(bench_program "$argument")
        [ -n "$of" ] || continue
        case " $chosen " in *" $of "*) ;; *) chosen="$chosen $of" ;; esac
    done
    install build
    status=0
    results=$(mktemp)
    for each in ${chosen:-services micro memory tunnel control}; do
        if [ -n "$json" ]; then
            bench_one "$each" "$@" >>"$results" || status=1
        else
            bench_one "$each" "$@" || status=1
        fi
    done
    # Each program prints an array of its own.
    [ -z "$json" ] || awk 'BEGIN { print "[" }
        /^\[$/ { if (arrays++) print ","; next }
        /^\]$/ { next }
        { print }
        END { print "]" }' "$results"
    rm -f "$results"
    return "$status"
}

cmd_soak() {
    [ "${1:-}" = relay ] || die "no soak \`${1:-}\`; there is: relay"
    shift
    install build
    build_services
    build_bench ztna-bench
    "$target/bench/release/ztna-bench" soak "$@" --ztna-derp "$target/release/ztna-derp"
}

# ── ./dev sim ────────────────────────────────────────────────────────────────────────────────

cmd_sim() {
    install build
    build "building the simulator" build --release --locked --package ztna-sim || die "the build failed"
    "$target/release/ztna-sim" "$@"
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
        check "Fuzzing $name for $seconds s" fuzz_target "$name" "$seconds"
    done
    [ "$failed" -eq 0 ] || die "$failed of $((passed + failed)) targets found something; see above"
}
