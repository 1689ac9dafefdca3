#!/bin/bash

if [ "${DIB_DEBUG_TRACE:-0}" -gt 0 ]; then
    set -x
fi
set -eu
set -o pipefail
export PATH=$PATH:/usr/sbin:/sbin

# Write configurations for DHCP on network interfaces that have none:
#
#     dhcp-all-interfaces.sh [INTERFACE]   one, or all
#     dhcp-all-interfaces.sh --up INTERFACE
#
# The second form brings up an interface where there is no ifup.

timeout=@TIMEOUT@
net=/sys/class/net

# find_style sets style to what configurations are written for.
find_style() {
    local daemon
    style=''
    if command -v ifup > /dev/null; then
        if [ -d /etc/network ]; then
            style=eni
        elif [ -d /etc/sysconfig/network-scripts ]; then
            style=redhat
        elif [ -d /etc/sysconfig/network ]; then
            style=suse
        fi
    fi
    if [ -z "$style" ] && [ -d /etc/NetworkManager ]; then
        style=network-manager
    fi
    for daemon in /usr/lib/systemd/systemd-networkd /lib/systemd/systemd-networkd; do
        if [ -z "$style" ] && [ -e "$daemon" ]; then
            style=networkd
        fi
    done
    if [ -z "$style" ]; then
        echo "dhcp-all-interfaces: there is nothing to configure interfaces with: neither ifup, NetworkManager nor systemd-networkd" >&2
        exit 1
    fi
}

# file_of INTERFACE prints the file that holds its configuration.
file_of() {
    case $style in
        eni) echo /etc/network/interfaces ;;
        redhat) echo "/etc/sysconfig/network-scripts/ifcfg-$1" ;;
        suse) echo "/etc/sysconfig/network/ifcfg-$1" ;;
        network-manager) echo "/etc/NetworkManager/system-connections/$1.nmconnection" ;;
        networkd) echo "/etc/systemd/network/50-dhcp-$1.network" ;;
    esac
}

configured() {
    case $style in
        eni) [ -n "$(ifquery "$1" 2> /dev/null || true)" ] ;;
        *) [ -e "$(file_of "$1")" ] ;;
    esac
}

# permanent INTERFACE: whether its MAC address is its own (type 0), or that of
# such an interface below a VLAN (type 2).
permanent() {
    local kind lower=${1%.*}
    kind=$(cat "$net/$1/addr_assign_type" 2> /dev/null || true)
    if [ "$kind" = 0 ]; then
        return 0
    fi
    [ "$kind" = 2 ] && [ "$lower" != "$1" ] && [ "$(cat "$net/$lower/addr_assign_type" 2> /dev/null || true)" = 0 ]
}

is_vlan() {
    [ "${1%.*}" != "$1" ] && [ -e "$net/${1%.*}" ]
}

linked() {
    local i
    ip link set dev "$1" up || return 1
    for ((i = 0; i < timeout; i++)); do
        if [ "$(cat "$net/$1/carrier" 2> /dev/null || true)" = 1 ]; then
            return 0
        fi
        sleep 1
    done
    return 1
}

# find_ipv6 INTERFACE: set ipv6 to what routers announce: managed, other
# (addresses are made up, other settings come by DHCP), auto or nothing.
find_ipv6() {
    local i report status
    ipv6=''
    if ! command -v rdisc6 > /dev/null; then
        return
    fi
    for ((i = 0; i < timeout; i++)); do
        status=0
        report=$(rdisc6 --retry 3 --single "$1" 2> /dev/null) || status=$?
        case $status in
            0)
                ipv6=auto
                if grep -qE 'Stateful address conf\.[[:space:]]*:[[:space:]]*Yes' <<< "$report"; then
                    ipv6=managed
                elif grep -qE 'Stateful other conf\.[[:space:]]*:[[:space:]]*Yes' <<< "$report"; then
                    ipv6=other
                fi
                return
                ;;
            1) sleep 1 ;;
            *) return ;;
        esac
    done
}

# write_duid INTERFACE: give dhclient an identity that stays, made of the
# machine's id (DUID-UUID, type 4).
write_duid() {
    local id i duid='\000\004' leases
    case $style in
        eni) leases=/var/lib/dhcp/dhclient6.$1.leases ;;
        *) leases=/var/lib/dhclient/dhclient6-$1.leases ;;
    esac
    id=$(tr -d '\n-' < /etc/machine-id 2> /dev/null || true)
    if [[ ! $id =~ ^[0-9a-f]{32}$ ]] || grep -qs default-duid "$leases"; then
        return
    fi
    for ((i = 0; i < 32; i += 2)); do
        printf -v duid '%s\\%03o' "$duid" "0x${id:i:2}"
    done
    mkdir -p "$(dirname "$leases")"
    printf 'default-duid "%s";\n' "$duid" >> "$leases"
}

eni_text() {
    printf '\nauto %s\niface %s inet dhcp\n' "$1" "$1"
    case $ipv6 in
        managed) printf 'iface %s inet6 dhcp\n' "$1" ;;
        other) printf 'iface %s inet6 auto\n    dhcp 1\n' "$1" ;;
        auto) printf 'iface %s inet6 auto\n    dhcp 0\n' "$1" ;;
    esac
}

redhat_text() {
    printf 'DEVICE="%s"\nBOOTPROTO="dhcp"\nONBOOT="yes"\n' "$1"
    if [ "$(cat "$net/$1/type" 2> /dev/null || true)" = 32 ]; then
        printf '%s\n' 'TYPE="InfiniBand"' 'CONNECTED_MODE="no"' 'DEFROUTE="yes"' 'PEERDNS="yes"' 'PEERROUTES="yes"' 'IPV4_FAILURE_FATAL="yes"'
        if [ -z "$ipv6" ]; then
            echo 'IPV6INIT="no"'
        fi
    elif is_vlan "$1"; then
        echo 'VLAN="yes"'
    else
        echo 'TYPE="Ethernet"'
    fi
    case $ipv6 in
        managed) printf '%s\n' 'IPV6INIT="yes"' 'IPV6_FORCE_ACCEPT_RA="yes"' 'DHCPV6C="yes"' ;;
        other) printf '%s\n' 'IPV6INIT="yes"' 'IPV6_AUTOCONF="yes"' 'DHCPV6C="yes"' 'DHCPV6C_OPTIONS="-S"' ;;
        auto) printf '%s\n' 'IPV6INIT="yes"' 'IPV6_AUTOCONF="yes"' ;;
    esac
}

network_manager_text() {
    local kind=ethernet
    if [ "$(cat "$net/$1/type" 2> /dev/null || true)" = 32 ]; then
        kind=infiniband
    elif is_vlan "$1"; then
        kind=vlan
    fi
    printf '[connection]\nid=%s\ntype=%s\ninterface-name=%s\n\n' "$1" "$kind" "$1"
    if [ "$kind" = vlan ]; then
        printf '[vlan]\nid=%s\nparent=%s\n\n' "${1##*.}" "${1%.*}"
    fi
    printf '[ipv4]\nmethod=auto\ndhcp-timeout=%s\n\n[ipv6]\nmethod=auto\n' "$timeout"
}

# put FILE MODE: write standard input to a file that is complete or not there.
put() {
    mkdir -p "$(dirname "$1")"
    (umask 0177 && cat > "$1.new")
    chmod "$2" "$1.new"
    mv -f "$1.new" "$1"
}

configure() {
    local file
    file=$(file_of "$1")
    ipv6=''
    case $style in
        eni|redhat|suse)
            find_ipv6 "$1"
            if [ -n "$ipv6" ]; then
                write_duid "$1"
            fi
            ;;
    esac
    case $style in
        eni)
            # Several interfaces are configured at the same time.
            { flock 9; eni_text "$1" >&9; } 9>> "$file"
            ;;
        redhat) redhat_text "$1" | put "$file" 0644 ;;
        suse) printf "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n" | put "$file" 0644 ;;
        network-manager) network_manager_text "$1" | put "$file" 0600 ;;
        networkd) printf '[Match]\nName=%s\n\n[Network]\nDHCP=yes\n' "$1" | put "$file" 0644 ;;
    esac
    echo "dhcp-all-interfaces: $1 is configured in $file"
}

inspect() {
    if configured "$1"; then
        echo "dhcp-all-interfaces: $1 has a configuration already"
    elif ! permanent "$1"; then
        echo "dhcp-all-interfaces: $1 has no MAC address of its own and is left alone"
    elif ! linked "$1"; then
        echo "dhcp-all-interfaces: $1 has no link and is left alone"
    else
        configure "$1"
    fi
}

# bring_up INTERFACE: have the network's daemon take up its new configuration.
bring_up() {
    if ! configured "$1"; then
        return
    fi
    case $style in
        network-manager)
            nmcli connection reload
            nmcli connection up "$1"
            ;;
        networkd)
            networkctl reload
            networkctl reconfigure "$1"
            ;;
        *) ifup "$1" ;;
    esac
}

find_style
if [ "${1:-}" = --up ]; then
    bring_up "$2"
elif [ -n "${1:-}" ]; then
    inspect "$1"
else
    for path in "$net"/*; do
        if [ "${path##*/}" != lo ] && [ -e "$path" ]; then
            inspect "${path##*/}"
        fi
    done
fi
