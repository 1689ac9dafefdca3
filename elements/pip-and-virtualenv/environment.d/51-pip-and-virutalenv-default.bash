# shellcheck shell=bash

# No distribution of today lets pip replace its own Python packages.
export DIB_INSTALLTYPE_pip_and_virtualenv=${DIB_INSTALLTYPE_pip_and_virtualenv:-package}
if [ "$DIB_INSTALLTYPE_pip_and_virtualenv" = source ]; then
    case ${DISTRO_NAME:-}/${DIB_RELEASE:-} in
        centos/*|fedora/*|rhel/*|opensuse/tumbleweed)
            echo "cannot install pip from source on $DISTRO_NAME ${DIB_RELEASE:-}: set DIB_INSTALLTYPE_pip_and_virtualenv=package" >&2
            exit 1
            ;;
    esac
fi
if [ -L /usr/local/bin/dib-python ]; then
    _dib_python=$(readlink /usr/local/bin/dib-python)
    export DIB_PYTHON_PIP="$_dib_python -m pip"
    export DIB_PYTHON_VIRTUALENV="$_dib_python -m venv"
    if [ "${DIB_PYTHON_VERSION:-3}" != 3 ]; then
        export DIB_PYTHON_VIRTUALENV="$_dib_python -m virtualenv"
    fi
    unset _dib_python
fi
