# shellcheck shell=sh
# What `./dev test proofs` does: the models and vectors of the handshake. Sourced by `dev`, whose
# functions and variables it uses.
# shellcheck disable=SC2154 # variables of dev

# The symbolic analyser. A tool: nothing of ours links it.
VERIFPAL=1.6.7

# Builds the analyser, once for all checkouts of this user.
install_verifpal() {
    tools=${XDG_CACHE_HOME:-$HOME/.cache}/ztna/tools/verifpal-$VERIFPAL
    verifpal=$tools/bin/verifpal
    [ "$(version_of "$verifpal" --version)" != "$VERIFPAL" ] || return 0
    step "Building Verifpal $VERIFPAL, once (some three minutes)"
    # Its manifest asks for a newer compiler than it needs.
    build "building Verifpal" install verifpal --version "=$VERIFPAL" --locked --ignore-rust-version \
        --root "$tools"
}

area_proofs() {
    check "handshake vectors, second implementation" python3 crates/handshake/vectors/check.py >&2
    if install_verifpal; then
        check "handshake models" python3 crates/handshake/model/check.py "$verifpal" >&2
    else
        failing "handshake models: Verifpal cannot be built"
    fi
}
