#!/bin/sh
# Makes what a deployment by compose.yaml needs and nobody else may know: keys, passwords, the relay's certificate.
# What is there already stays, so it may be run again, with an option that is new for example.
set -eu

usage() {
    cat <<'END'
Usage: ./init.sh --domain NAME --email ADDRESS [--relay-host NAME] [--alert-webhook URL] [--dir DIR]

  --domain NAME         What agents and browsers dial; its DNS records lead to this machine
  --email ADDRESS       For the certificate authority (Let's Encrypt), whose terms of service this accepts
  --relay-host NAME     What agents dial for relay and STUN [default: the domain]
  --alert-webhook URL   Where Alertmanager sends alerts; without one they are only shown
  --dir DIR             Where to write .env and secrets/ [default: beside this script]

Needs openssl. Keep a copy of secrets/ elsewhere: master.key and api-keys.json are in no backup.
END
}

die() {
    echo "init.sh: $*" >&2
    exit 1
}

dir=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
domain='' email='' relay_host='' webhook=''
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) usage && exit 0 ;;
    --domain | --email | --relay-host | --alert-webhook | --dir)
        [ $# -ge 2 ] || die "$1 needs a value"
        case $1 in
        --domain) domain=$2 ;;
        --email) email=$2 ;;
        --relay-host) relay_host=$2 ;;
        --alert-webhook) webhook=$2 ;;
        --dir) dir=$2 ;;
        esac
        shift 2
        ;;
    *) die "no option \`$1\`; see ./init.sh --help" ;;
    esac
done
[ -n "$domain" ] || die "--domain is missing; see ./init.sh --help"
[ -n "$email" ] || die "--email is missing; see ./init.sh --help"
for value in "$domain" "$email" "$relay_host" "$webhook"; do
    case $value in *[!A-Za-z0-9._:/@?=\&%+~-]*) die "\`$value\` holds a character that does not belong there" ;; esac
done
relay_host=${relay_host:-$domain}
command -v openssl >/dev/null 2>&1 || die "openssl is missing; install it and start again"

# Containers run under users of their own and read these files: each is readable, the folder to its
# owner alone.
umask 022
mkdir -p "$dir/secrets"
chmod 700 "$dir/secrets"
cd "$dir/secrets"

# Writes standard input to a file, whole or not at all.
keep() {
    cat >"$1.new"
    mv "$1.new" "$1"
}
password() { openssl rand -hex 32; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
# The other way round.
bytes() {
    sed 's/../&\n/g' | while read -r byte && [ -n "$byte" ]; do
        # shellcheck disable=SC2059 # an octal escape
        printf "\\$(printf '%03o' "0x$byte")"
    done
}

[ -e master.key ] || password | keep master.key
if [ ! -e api-keys.json ]; then
    access=$(openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | sed 's/$/\\n/' | tr -d '\n')
    # The seed is the end of an Ed25519 key in PKCS #8 (RFC 8410 §7).
    seed=$(openssl genpkey -algorithm ED25519 -outform DER | tail -c 32 | hex)
    printf '{"access_token_key":"%s","ticket_seed":"%s"}\n' "$access" "$seed" | keep api-keys.json
fi
for name in postgres replication valkey s3 grafana; do
    [ -e "$name-password" ] || password | keep "$name-password"
done

if [ ! -e relay-tls.pem ] || [ ! -e relay-tls.key ]; then
    # Agents know it by its digest, so nothing else in it counts, and it is not replaced in the dark.
    case $relay_host in
    *[!0-9.]*) subject="DNS:$relay_host,DNS:relay.ztna.internal" ;;
    *) subject="IP:$relay_host,DNS:relay.ztna.internal" ;;
    esac
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=ztna relay" \
        -addext "subjectAltName=$subject" -keyout relay-tls.key.new -out relay-tls.pem.new 2>/dev/null
    chmod 644 relay-tls.key.new
    mv relay-tls.key.new relay-tls.key
    mv relay-tls.pem.new relay-tls.pem
fi
pin=$(openssl x509 -in relay-tls.pem -outform DER | openssl dgst -sha256 -r | cut -d ' ' -f 1)

# What follows is made of the above, each time anew.
# PKCS #8 of an Ed25519 seed: this head, then the seed.
seed=$(sed -n 's/.*"ticket_seed": *"\([0-9a-f]*\)".*/\1/p' api-keys.json)
ticket_key=$(echo "302e020100300506032b657004220420$seed" | bytes |
    openssl pkey -inform DER -pubout -outform DER | tail -c 32 | hex)
[ ${#ticket_key} -eq 64 ] || die "cannot read the ticket key in secrets/api-keys.json"

database="postgres://ztna:$(cat postgres-password)@postgres/ztna"
echo "$database" | keep database-url
echo "redis://:$(cat valkey-password)@valkey:6379" | keep kv-url
# What is no secret; the secret half of the key is s3-password.
keep backup.env <<END
AWS_ACCESS_KEY_ID=ztna
AWS_REGION=us-east-1
AWS_ENDPOINT_URL=http://s3:9000
END
keep derp.env <<END
ZTNA_DERP_TICKET_KEY=$ticket_key
END
keep valkey.conf <<END
requirepass $(cat valkey-password)
# Limits, one-time codes and words between nodes: nothing that has to outlast it.
save ""
appendonly no
maxmemory 256mb
maxmemory-policy noeviction
END
printf '{"redis://valkey:6379":"%s"}\n' "$(cat valkey-password)" | keep valkey-exporter.json
keep relays.json <<END
{
  "regions": {
    "1": {
      "id": 1, "code": "home", "name": "This deployment",
      "nodes": [
        {
          "name": "direct", "host": "$relay_host", "derp_port": 8443, "quic_port": 8443, "stun_port": 3478,
          "certificate": {"sha256": "$pin"}
        },
        {"name": "https", "host": "$domain", "derp_port": 443, "certificate": "web_pki"}
      ]
    }
  }
}
END
{
    cat <<'END'
route:
  receiver: operators
  group_by: [alertname, job]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 4h
inhibit_rules:
  # Of what is critical one need not hear that it is a warning, too.
  - source_matchers: [severity="critical"]
    target_matchers: [severity="warning"]
    equal: [job, instance]
receivers:
  - name: operators
END
    [ -z "$webhook" ] || printf '    webhook_configs:\n      - url: "%s"\n' "$webhook"
} | keep alertmanager.yml
cd ..
keep .env <<END
COMPOSE_PROJECT_NAME=ztna
ZTNA_DOMAIN=$domain
ZTNA_TLS=$email
END

echo "written: $dir/.env and $dir/secrets"
[ -n "$webhook" ] || echo "alerts are shown by Alertmanager and sent nowhere: give --alert-webhook"
