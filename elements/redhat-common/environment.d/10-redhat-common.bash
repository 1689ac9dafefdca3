# shellcheck shell=bash

export DIB_INIT_SYSTEM=systemd
export DIB_DISABLE_KERNEL_CLEANUP=${DIB_DISABLE_KERNEL_CLEANUP:-0}
