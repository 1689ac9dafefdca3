#!/bin/sh
#
# The fragments are bash; this shell may be another one.
bash /deploy-init
