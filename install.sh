#!/bin/sh
# Installs the ztna agent on a machine with Linux or macOS, from the control plane that the machine is to join:
#
#   curl -fsSL https://vpn.example.org/install.sh | sudo ZTNA_AUTH_KEY=ztna-auth-… sh -s -- --server https://vpn.example.org
#
# Nothing is installed that was not signed by the key below. What is downloaded is checked before anything of this machine
# is touched, and the program is put into its place in one step.
set -eu

# The public key of releases, in PEM. Who signs releases puts theirs here; --release-key names another.
release_key=''

program=/usr/local/bin/ztna

usage() {
    cat <<'END'
Usage: install.sh --server URL [--server-pin sha256:HEX] [--release-key FILE] [--no-start]
       install.sh --uninstall [--purge]

  --server URL           The control plane (or ZTNA_SERVER)
  --server-pin PIN       Pin of its certificate, if it is self-signed (or ZTNA_SERVER_PIN)
  --release-key FILE     Public key, in PEM, that releases are signed by
  --no-start             Install only
  --uninstall            Take the program and its service away; the machine's keys stay for the next time
  --purge                Those, too

With ZTNA_AUTH_KEY in the environment the machine joins without a question; else `sudo ztna login` follows.
Running it again brings the machine to the release that the control plane has for it.
END
}

say() { printf 'ztna: %s\n' "$*"; }
die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# ── Asking the control plane ─────────────────────────────────────────────────────────────────

# fetch URL FILE BYTES: at most so many of them.
fetch() {
    if have curl; then
        curl --silent --show-error --location --max-redirs 3 --proto '=https' --connect-timeout 15 --max-time 600 \
            --max-filesize "$3" ${authority:+--cacert "$authority"} --output "$2" --write-out '%{http_code}' "$1" >"$work/status" 2>"$work/why" ||
            die "cannot reach $server: $(cat "$work/why")"
        status=$(cat "$work/status")
    else
        status=200
        wget --quiet --https-only --timeout=30 --tries=2 ${authority:+--ca-certificate="$authority"} --output-document="$2" \
            "$1" 2>"$work/why" || status=000
    fi
}

# The server's certificate, if it is the pinned one, as the only authority.
pin_certificate() {
    pin=${server_pin#sha256:}
    case $pin in *[!0-9a-f]* | '') die "--server-pin is not of the form sha256:<64 hex digits>" ;; esac
    place=${server#https://}
    place=${place%%/*}
    case $place in *:*) ;; *) place=$place:443 ;; esac
    openssl s_client -connect "$place" -servername "${place%:*}" </dev/null 2>"$work/why" |
        openssl x509 -out "$work/server.pem" 2>/dev/null ||
        die "cannot reach $server: $(head -n 1 "$work/why")"
    found=$(openssl x509 -in "$work/server.pem" -outform DER | digest)
    [ "$found" = "$pin" ] || die "$server has the certificate sha256:$found, not the pinned one; nothing was installed"
    authority=$work/server.pem
}

digest() { openssl dgst -sha256 -r | cut -d ' ' -f 1; }

# field NAME PATTERN: of the control plane's answer. Whatever does not look as it must is none.
field() {
    sed -n 's|.*"'"$1"'" *: *"\{0,1\}\('"$2"'\)"\{0,1\} *[,}].*|\1|p' "$work/answer" | head -n 1
}

ask_for_release() {
    fetch "$server/api/client-version?target=$target" "$work/answer" 65536
    if [ "$status" != 200 ]; then
        why=$(field message '[^"]*')
        die "$server has no release for this machine ($target): ${why:-HTTP $status}"
    fi
    version=$(field version '[0-9A-Za-z.+-]\{1,64\}')
    path=$(field path '/api/releases/[0-9A-Za-z.+_/-]\{1,255\}')
    size=$(field size '[0-9]\{1,10\}')
    sha256=$(field sha256 '[0-9a-f]\{64\}')
    signature=$(field signature '[0-9A-Za-z+/=]\{1,255\}')
    [ "$(field target '[0-9a-z_-]*')" = "$target" ] || path=''
    for value in "$version" "$path" "$size" "$sha256" "$signature"; do
        [ -n "$value" ] || die "what $server says of its release is not understood; is it a ztna control plane?"
    done
}

# Checks the signature first: it says which file to expect.
check_signature() {
    printf 'ztna release 1\n%s\n%s\n%s\n' "$version" "$target" "$sha256" >"$work/statement"
    printf '%s\n' "$signature" | openssl base64 -d -A -out "$work/signature" 2>/dev/null || : >"$work/signature"
    openssl dgst -sha256 -verify "$work/key.pem" -signature "$work/signature" "$work/statement" >/dev/null 2>&1 ||
        die "the release $version of $server is not signed by the release key; nothing was installed. Tell its operator"
}

check_file() {
    [ "$(digest <"$1")" = "$sha256" ] ||
        die "what was downloaded is not the signed release $version: it was changed on its way, or cut off; nothing was installed"
    chmod 755 "$1"
    # Before it takes the old one's place: it may be built for a newer system than this.
    "$1" --version >"$work/runs" 2>&1 ||
        die "release $version does not run on this machine ($(uname -sr), $(libraries)): $(tail -n 1 "$work/runs"). Nothing was installed"
}

# What programs of this system are built for.
libraries() {
    case $system in
    macos) echo "macOS $(sw_vers -productVersion 2>/dev/null)" ;;
    *) getconf GNU_LIBC_VERSION 2>/dev/null || echo "no glibc" ;;
    esac
}

# ── Installing ───────────────────────────────────────────────────────────────────────────────

# The program knows its service. A daemon that runs is started anew with the new program, and waited for.
register_service() {
    set -- ${no_start:+--no-start}
    if [ "$system" = linux ] && ! have systemctl; then
        set -- "$@" --no-service
        say "there is no systemd here: \`ztna up\` starts the daemon, also after a restart of the machine"
    fi
    "$program" install "$@" || die "$program is ztna $version, and its service is not set up; see above"
}

# What `ztna update` checks releases with, where there is that command.
keep_key() {
    [ "$system" = linux ] || return 0
    if ! { mkdir -p "$state" && chmod 700 "$state" && install -m 644 "$work/key.pem" "$state/release-key.pem"; }; then
        die "ztna $version is installed, and the release key could not be written to $state"
    fi
}

join() {
    [ -z "$no_start" ] || return 0
    if [ -n "${ZTNA_AUTH_KEY:-}" ]; then
        # The key goes by the environment: others of this machine see what is on a command line.
        "$program" up --server "$server" ${server_pin:+--server-pin "$server_pin"} ||
            die "ztna $version is installed and did not join; see above, then: sudo ztna up"
        return
    fi
    say "to join: ztna login --server $server${server_pin:+ --server-pin $server_pin} && sudo ztna up"
}

install_agent() {
    [ -n "$server" ] || die "--server is missing; see --help"
    case $server in
    https://*[!A-Za-z0-9.:/_\[\]-]*) die "\`$server\` is no address of a server" ;;
    https://?*) server=${server%/} ;;
    *) die "--server has to begin with https://" ;;
    esac
    have curl || have wget || die "curl or wget is missing; install one and start again"
    have openssl || die "openssl is missing, which checks the signature; install it and start again"
    if [ -n "$key_file" ]; then
        [ -r "$key_file" ] || die "cannot read the release key $key_file"
        cp "$key_file" "$work/key.pem"
    else
        [ -n "$release_key" ] || die "this copy names no release key: give --release-key, or take the one that your operator serves"
        printf '%s\n' "$release_key" >"$work/key.pem"
    fi
    openssl pkey -pubin -in "$work/key.pem" -noout 2>/dev/null || die "the release key is no public key in PEM"
    [ -z "$server_pin" ] || pin_certificate

    ask_for_release
    check_signature
    if [ -f "$program" ] && [ "$(digest <"$program")" = "$sha256" ]; then
        say "$program is release $version already"
    else
        # In the folder of the program, so that the last step is a rename.
        mkdir -p "${program%/*}"
        beside=$(mktemp "${program%/*}/.ztna.XXXXXX") || die "cannot write to ${program%/*}"
        fetch "$server$path" "$beside" "$size"
        [ "$status" = 200 ] || die "$server does not give release $version out: HTTP $status; nothing was installed"
        check_file "$beside"
        mv "$beside" "$program"
        beside=''
        say "$program is release $version now"
    fi
    keep_key
    register_service
    join
}

# What is left of the service where the program was taken away by hand: LABEL and FILE of agent/src/platform/macos/service.rs.
forget_service() {
    plist=/Library/LaunchDaemons/internal.ztna.agent.plist
    [ "$system" = macos ] && [ -e "$plist" ] || return 0
    launchctl bootout system/internal.ztna.agent 2>/dev/null || :
    rm -f "$plist"
    say "its service is removed"
}

uninstall_agent() {
    if [ -x "$program" ] && [ "$system" = linux ]; then
        "$program" uninstall ${purge:+--purge} || die "ztna is not removed; see above"
        return
    fi
    if [ -x "$program" ]; then
        # Elsewhere it takes its service away, and leaves the rest.
        "$program" uninstall || die "ztna is not removed; see above"
        rm -f "$program"
        say "$program is removed"
    else
        say "there is no $program"
        forget_service
    fi
    if [ -n "$purge" ] && [ -d "$state" ]; then
        rm -rf "$state"
        say "the machine's keys are removed; delete it from the organisation, too"
    fi
}

main() {
    server=${ZTNA_SERVER:-} server_pin=${ZTNA_SERVER_PIN:-} key_file='' no_start='' uninstall='' purge=''
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help) usage && exit 0 ;;
        --server | --server-pin | --release-key)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in
            --server) server=$2 ;;
            --server-pin) server_pin=$2 ;;
            --release-key) key_file=$2 ;;
            esac
            shift
            ;;
        --no-start) no_start=1 ;;
        --uninstall) uninstall=1 ;;
        --purge) purge=1 ;;
        *) die "no option \`$1\`; see --help" ;;
        esac
        shift
    done
    # Where the program keeps its state: STATE_DIR of agent/src/platform.
    case $(uname -s) in
    Linux) system=linux state=/var/lib/ztna ;;
    Darwin) system=macos state=/var/db/ztna ;;
    *) die "the agent does not run on $(uname -s); on Windows use install.ps1" ;;
    esac
    processor=$(uname -m)
    # A shell that Rosetta translates is told of a processor that is not there.
    if [ "$system" = macos ] && [ "$(sysctl -n hw.optional.arm64 2>/dev/null)" = 1 ]; then processor=arm64; fi
    case $processor in
    x86_64 | amd64) target=$system-x86_64 ;;
    aarch64 | arm64) target=$system-aarch64 ;;
    *) die "there is no agent for this processor ($processor)" ;;
    esac
    [ "$(id -u)" -eq 0 ] || die "run it as root: it writes $program and registers a service"
    umask 022
    beside='' authority=''
    work=$(mktemp -d) || die "cannot make a temporary folder"
    trap 'rm -rf "$work" ${beside:+"$beside"}' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    if [ -n "$uninstall" ]; then uninstall_agent; else install_agent; fi
}

# Last, so that half of this file does nothing.
main "$@"
