#!/bin/bash

if [ "${DIB_DEBUG_TRACE:-0}" -gt 0 ]; then
    set -x
fi
set -eu
set -o pipefail

# Create the host keys that are missing. A type that this OpenSSH does not
# support is left out; having no key at all is a failure.

have=0
for type in ecdsa ed25519 rsa; do
    key=/etc/ssh/ssh_host_${type}_key
    if [ -e "$key" ] || ssh-keygen -q -N '' -t "$type" -f "$key" < /dev/null; then
        have=1
    else
        echo "no $type host key could be created" >&2
    fi
done
[ "$have" = 1 ]
