#!/bin/sh
#
# The fragments are bash, which this shell need not be, and talk to a person,
# while output of dracut's own steps goes to a journal.
bash /deploy-init < /dev/console > /dev/console 2>&1
