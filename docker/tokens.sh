#!/bin/sh
# Keys and tokens for local use: an Ed25519 key that is made once and never leaves its volume, the JWKS
# that the services check tokens with, and tokens that are valid for a day.
#
#   tokens keys               make the key, if there is none, and write the JWKS
#   tokens token MEMBER_ID    print a token
set -eu

KEY=${KEY:-/key/ed25519.pem}
JWKS=${JWKS:-/jwks/jwks.json}

base64url() {
    openssl base64 -A | tr '+/' '-_' | tr -d '='
}

# The last 32 bytes of its DER form are the public key.
public_key() {
    openssl pkey -in "$KEY" -pubout -outform DER | tail -c 32 | base64url
}

keys() {
    if [ ! -f "$KEY" ]; then
        (umask 077 && openssl genpkey -algorithm ed25519 -out "$KEY.new" && mv "$KEY.new" "$KEY")
    fi
    x=$(public_key)
    printf '{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","use":"sig","kid":"local","x":"%s"}]}\n' \
        "$x" > "$JWKS.new"
    mv "$JWKS.new" "$JWKS"
}

token() {
    case $1 in
        '' | 0* | *[!0-9]*)
            echo "tokens: \"$1\" is no member id; give a positive number" >&2
            exit 2
            ;;
    esac
    if [ ! -f "$KEY" ]; then
        echo "tokens: there is no key yet; start the system first (docker compose up)" >&2
        exit 1
    fi
    now=$(date +%s)
    header=$(printf '{"alg":"EdDSA","typ":"JWT","kid":"local"}' | base64url)
    claims=$(printf '{"iss":"local-stack","aud":"marketplace","sub":"%s","iat":%d,"exp":%d}' \
        "$1" "$now" "$((now + 86400))" | base64url)
    # Ed25519 signs whole files only, no stream.
    unsigned=$(mktemp)
    trap 'rm -f "$unsigned"' EXIT
    printf '%s.%s' "$header" "$claims" > "$unsigned"
    signature=$(openssl pkeyutl -sign -rawin -inkey "$KEY" -in "$unsigned" | base64url)
    printf '%s.%s.%s\n' "$header" "$claims" "$signature"
}

case ${1:-} in
    keys) keys ;;
    token) token "${2:-}" ;;
    *)
        echo "usage: tokens keys | tokens token MEMBER_ID" >&2
        exit 2
        ;;
esac
