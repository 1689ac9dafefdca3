# shellcheck shell=bash

case ${ARCH:-} in
    ppc64|ppc64le|ppc64el)
        echo "block-device-efi-4k cannot be used for ARCH=$ARCH: select block-device-gpt" >&2
        exit 1
        ;;
esac
export DIB_BLOCK_DEVICE=efi
