#!/bin/bash
# shellcheck disable=SC2154 # dracut sets moddir
#
# dracut's description of this module: its parts and where they hook in.
# dib-lint: disable=sete setu setpipefail dibdebugtrace

check() {
    return 0
}

depends() {
    echo bash network
}

install() {
    inst_hook cmdline 80 "$moddir/no-root.sh"
    inst_hook pre-mount 50 "$moddir/run-init.sh"
    inst_script "$moddir/init.sh" /deploy-init
    inst_multiple reboot
}
