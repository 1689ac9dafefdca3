# shellcheck shell=bash

export DISTRO_NAME=debian
export DIB_RELEASE=${DIB_RELEASE:-stable}
export DIB_INIT_SYSTEM=systemd
export EFI_BOOT_DIR=EFI/debian

# Which of the addresses below are defaults, for bootstrap-debian: only those
# are fetched from the mirror that the host's own apt uses. The note survives
# that this file is read again with its own results in the environment.
export _DIB_DEBIAN_DEFAULT_MIRRORS=${_DIB_DEBIAN_DEFAULT_MIRRORS:-}
DIB_DISTRIBUTION_MIRROR=${DIB_DEBIAN_DISTRIBUTION_MIRROR:-${DIB_DISTRIBUTION_MIRROR:-}}
if [ -z "$DIB_DISTRIBUTION_MIRROR" ]; then
    DIB_DISTRIBUTION_MIRROR=http://ftp.debian.org/debian
    _DIB_DEBIAN_DEFAULT_MIRRORS+=' archive'
fi
export DIB_DISTRIBUTION_MIRROR
if [ -z "${DIB_DEBIAN_SECURITY_MIRROR:-}" ]; then
    DIB_DEBIAN_SECURITY_MIRROR=http://security.debian.org/debian-security
    _DIB_DEBIAN_DEFAULT_MIRRORS+=' security'
fi
export DIB_DEBIAN_SECURITY_MIRROR
export DIB_DEBIAN_SECURITY_SUBPATH=${DIB_DEBIAN_SECURITY_SUBPATH:-}

export DIB_DEBIAN_COMPONENTS=${DIB_DEBIAN_COMPONENTS:-main}
export DIB_DEBIAN_COMPONENTS_WS=${DIB_DEBIAN_COMPONENTS//,/ }

if [ -z "${DIB_APT_SOURCES_CONF:-}" ]; then
    DIB_APT_SOURCES_CONF="default:deb $DIB_DISTRIBUTION_MIRROR $DIB_RELEASE $DIB_DEBIAN_COMPONENTS_WS"
    case $DIB_RELEASE in
        testing|unstable|sid|experimental) ;; # suites that are updated in place
        *)
            DIB_APT_SOURCES_CONF+="
updates:deb $DIB_DISTRIBUTION_MIRROR $DIB_RELEASE-updates $DIB_DEBIAN_COMPONENTS_WS
security:deb $DIB_DEBIAN_SECURITY_MIRROR $DIB_RELEASE-security$DIB_DEBIAN_SECURITY_SUBPATH $DIB_DEBIAN_COMPONENTS_WS"
            ;;
    esac
fi
export DIB_APT_SOURCES_CONF
