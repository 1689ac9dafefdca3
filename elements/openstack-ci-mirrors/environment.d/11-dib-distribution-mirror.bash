# shellcheck shell=bash

_dib_mirrors=
for _dib_file in /etc/ci/mirror_info.sh /tmp/in_target.d/mirror_info.sh; do
    if [ -z "$_dib_mirrors" ] && [ -f "$_dib_file" ]; then
        _dib_mirrors=$_dib_file
    fi
done
if [ -z "$_dib_mirrors" ]; then
    unset _dib_mirrors _dib_file
    return 0
fi
# shellcheck disable=SC1090 # of the CI
source "$_dib_mirrors"

case ${DISTRO_NAME:-} in
    ubuntu)
        case ${ARCH:-} in
            arm64) export DIB_DISTRIBUTION_MIRROR=${NODEPOOL_UBUNTU_PORTS_MIRROR:-} ;;
            amd64) export DIB_DISTRIBUTION_MIRROR=${NODEPOOL_UBUNTU_MIRROR:-} ;;
        esac
        ;;
    debian) export DIB_DISTRIBUTION_MIRROR=${NODEPOOL_DEBIAN_MIRROR:-} ;;
    centos)
        if [ "${DIB_RELEASE:-}" = 9-stream ]; then
            export DIB_DISTRIBUTION_MIRROR=${NODEPOOL_CENTOS_MIRROR:-}
            export DIB_EPEL_MIRROR=${NODEPOOL_EPEL_MIRROR:-}
        fi
        ;;
    opensuse) export DIB_DISTRIBUTION_MIRROR=${NODEPOOL_OPENSUSE_MIRROR:-} ;;
    rocky)
        # The backslash is for the sed that puts it into repository files.
        # shellcheck disable=SC2016
        export DIB_DISTRIBUTION_MIRROR='http://dl.rockylinux.org/\$contentdir'
        ;;
esac
export DIB_DISTRIBUTION_MIRROR_UBUNTU_IGNORE='(universe|multiverse)'
export DIB_DISTRIBUTION_MIRROR_UBUNTU_INSECURE=1
if [ -d "${DIB_OS_CI_YUM_REPOS:-}" ]; then
    case ${DISTRO_NAME:-} in
        centos|openeuler) export DIB_YUM_MINIMAL_BOOTSTRAP_REPOS=$DIB_OS_CI_YUM_REPOS/$DISTRO_NAME-minimal/$DIB_RELEASE/yum.repos.d ;;
    esac
fi
unset _dib_mirrors _dib_file
