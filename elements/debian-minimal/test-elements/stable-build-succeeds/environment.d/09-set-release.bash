# shellcheck shell=bash

export DIB_RELEASE=stable
