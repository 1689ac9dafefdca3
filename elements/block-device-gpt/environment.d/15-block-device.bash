# shellcheck shell=bash

case ${ARCH:-} in
    arm64|aarch64)
        echo "block-device-gpt cannot be used for ARCH=$ARCH: select block-device-efi" >&2
        exit 1
        ;;
esac
export DIB_BLOCK_DEVICE=gpt
