#!/bin/sh
# shellcheck disable=SC2034 # dracut reads the variables
#
# There is no root file system to wait for.
root=/dev/zero
rootok=1

# ip=address:server:gateway:netmask, as boot loaders append it, lacks the fields
# that dracut wants: no name, any interface, no further configuration.
if grep -Eq '(^| )ip=[0-9.]+:[0-9.]*:[0-9.]*:[0-9.]*( |$)' /proc/cmdline; then
    sed -E 's/(^| )(ip=[0-9.]+:[0-9.]*:[0-9.]*:[0-9.]*)( |$)/\1\2:::off\3/' /proc/cmdline > /run/cmdline
    mount --bind /run/cmdline /proc/cmdline
fi
