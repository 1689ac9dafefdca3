# shellcheck shell=bash

export YUM=dnf
