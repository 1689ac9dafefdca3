#!/bin/bash
# dib-lint: disable=sete setu setpipefail dibdebugtrace indent
""":"
# The command element-info under DIB's name for it. Hooks run that with Python or
# as a program; to Python these lines are a string.
for dib in "${TMP_HOOKS_PATH:-}/.dib" /tmp/in_target.d/.dib; do
    if [ -f "$dib" ] && [ -x "$dib" ]; then
        exec "$dib" element-info "$@"
    fi
done
echo "element-info.py: this copy works only while an image is being built" >&2
exit 1
":"""
import os
import sys

for dib in (os.environ.get("TMP_HOOKS_PATH", "") + "/.dib", "/tmp/in_target.d/.dib"):
    if os.access(dib, os.X_OK):
        os.execv(dib, [dib, "element-info"] + sys.argv[1:])
sys.exit("element-info.py: this copy works only while an image is being built")
