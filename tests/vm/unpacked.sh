# Sourced by what runs a guest.
# shellcheck shell=bash

# not_installed PACKAGE: it and all that it needs and this machine does not have, to be unpacked somewhere: QEMU's
# dependencies may replace packages of this machine.
not_installed() {
    apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances "$1" | grep '^[a-z0-9]' | sort -u |
        grep -vxFf <(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' | sed -n 's/^ii *//p') |
        grep -vE '^(cdebconf|install-info|ipxe-qemu|lib(debian-installer4|elogind0|newt.*|textwrap1))$'
}
