# What the set-ups of Linux have in common; each of them reads this file.
# shellcheck shell=sh
#
# The script defines `role`, `usage`, `flag`, `option` and `set_up`, and calls `main "$@"`. One that may hold
# beside another role of the same interface defines `part` as well, the name of its own ledger, and `offset`,
# which of the interface's routing tables is its own.
#
# Whatever `up` makes, it first writes into a ledger, DIR/INTERFACE.setup: one line for each rule,
# route, table and changed sysctl. `down` undoes these lines in reverse order, and nothing else. A
# second `up` makes what is missing and then undoes the lines of the old ledger that it has no more.

LC_ALL=C
export LC_ALL

# Marks are single bits, so that others may use the rest.
# Of a packet: route it by our table. Of a connection: it is the client's, not this host's.
CLIENT=0x10000000
# Of a connection: it is this host's own.
# shellcheck disable=SC2034
OWN=0x20000000
# Of a packet: it is the tunnel's own, or for another reason not led into it; the portal marks what its links
# send. Of a connection: it came in from outside of the tunnel.
# shellcheck disable=SC2034
LINK=0x40000000

die() {
    # shellcheck disable=SC2154 # The script that reads this file defines it.
    echo "$role: ${interface:+$interface: }$*" >&2
    exit 1
}

main() {
    verb='' interface='' dry_run='' base='' part=${part-} offset=${offset-0}
    run_dir=${NETCOMBINER_RUN_DIR:-/run/netcombiner}
    while [ $# -gt 0 ]; do
        case $1 in
        --help | -h) usage && exit 0 ;;
        --dry-run) dry_run=yes ;;
        -*)
            if ! flag "$1"; then
                [ $# -ge 2 ] || die "$1: unknown, or its value is missing; see --help"
                case $1 in
                --run-dir) run_dir=$2 ;;
                --table) number "$1" "$2" && base=$2 ;;
                *) option "$1" "$2" || die "unknown option $1; see --help" ;;
                esac
                shift
            fi
            ;;
        *)
            if [ -z "$verb" ]; then
                verb=$1
            elif [ -z "$interface" ]; then
                interface_name interface "$1" && interface=$1
            else
                die "unexpected argument $1; see --help"
            fi
            ;;
        esac
        shift
    done
    [ -n "$interface" ] || die "usage: $role up|down INTERFACE [option]...; see --help"
    case $run_dir in /*) ;; *) run_dir=$PWD/$run_dir ;; esac
    ledger=$run_dir/$interface${part:+.$part}.setup
    draft=$ledger.new
    table=netcombiner_$(printf %s "$interface" | tr -c A-Za-z0-9_ _)${part:+_$part}
    case $verb in
    up) up ;;
    down) down ;;
    *) die "$verb: neither up nor down; see --help" ;;
    esac
}

# Checks of what the caller wrote. None of these characters means anything to nft or the shell.

number() {
    case $2 in '' | *[!0-9]*) die "$1 $2: not a number" ;; esac
}

interface_name() {
    case $2 in '' | -* | *[!A-Za-z0-9_=+.-]* | ????????????????*) die "$1 $2: not the name of an interface" ;; esac
}

address() {
    case $2 in
    *[!0-9a-fA-F.:/]* | '') its=none ;;
    *:*) its=6 ;;
    *) its=4 ;;
    esac
    ip "-$its" route show exact "$2" >/dev/null 2>&1 || die "$1 $2: not an address"
}

# Those of the given addresses that belong to the family 4 or 6.
of_family() {
    wanted=$1
    shift
    for item in "$@"; do
        case $item in *:*) its=6 ;; *) its=4 ;; esac
        [ "$its" != "$wanted" ] || echo "$item"
    done
}

# `a b` as the set `{ a, b }` of nft.
nft_set() {
    list=''
    for item in "$@"; do list="$list${list:+, }$item"; done
    echo "{ $list }"
}

# Up and down.

up() {
    ready_to_work
    if [ -e "$ledger" ]; then
        read -r owner <"$ledger" || owner=''
        [ "$owner" = "role $role" ] || die "set up by ${owner#role }; undo that first: ${owner#role } down $interface"
    fi
    choose_numbers
    assumed=''
    mtu=$(ip -o link show dev "$interface" 2>/dev/null | sed -n 's/.* mtu \([0-9]*\) .*/\1/p')
    if [ -z "$mtu" ]; then
        [ -n "$dry_run" ] || die "there is no such interface; start netcombiner first, or call this as its PostUp"
        echo "# $interface does not exist: an MTU of 1400 is assumed"
        mtu=1400
        # shellcheck disable=SC2034 # Both families, for the roles that ask it for its addresses.
        assumed=yes
    fi
    made_directory=''
    if [ -z "$dry_run" ]; then
        if [ ! -d "$run_dir" ] || grep -qsxF "directory $run_dir" "$ledger"; then made_directory=yes; fi
        mkdir -p "$run_dir" || die "cannot make $run_dir"
        : >"$draft" || die "cannot write $draft"
        trap 'roll_back' EXIT
        trap 'exit 1' HUP INT TERM
    fi
    remember "role $role"
    if [ -n "$made_directory" ]; then remember "directory $run_dir"; fi
    set_up
    [ -z "$dry_run" ] || return 0
    trap - EXIT
    if [ -e "$ledger" ]; then
        reversed "$ledger" | while read -r line; do
            grep -qxF "$line" "$draft" || undo "$line"
        done
    fi
    mv -f "$draft" "$ledger"
}

down() {
    if [ ! -e "$ledger" ]; then
        [ -z "$dry_run" ] || echo "# nothing is set up"
        return 0
    fi
    read -r owner <"$ledger" || owner=''
    [ "$owner" = "role $role" ] || die "set up by ${owner#role }; undo it with that"
    ready_to_work
    undo_ledger "$ledger"
}

# The end of an `up` that failed. Where an earlier one holds, its work and the new are both kept in
# the ledger for `down`; where none does, nothing stays.
roll_back() {
    trap - EXIT
    if [ -e "$ledger" ]; then
        # shellcheck disable=SC2094 # The patterns are read before anything is written.
        grep -vxFf "$ledger" "$draft" >>"$ledger" || :
        rm -f "$draft"
    else
        undo_ledger "$draft"
    fi
}

undo_ledger() {
    reversed "$1" | while read -r line; do undo "$line"; done
    [ -z "$dry_run" ] || return 0
    made_directory=$(sed -n 's/^directory //p' "$1")
    rm -f "$1"
    # Not while it holds files of others.
    [ -z "$made_directory" ] || rmdir "$made_directory" 2>/dev/null || :
}

reversed() {
    sed -n '1!G;h;$p' "$1"
}

# Undoes one line. What is gone already needs no undoing.
undo() {
    # shellcheck disable=SC2086
    set -- $1
    what=$1
    shift
    case $what in
    rule) family=$1 && shift && drop ip "-$family" rule del "$@" ;;
    route) family=$1 && shift && drop ip "-$family" route del "$@" ;;
    table) drop nft delete table inet "$1" ;;
    dns) drop resolvconf -f -d "$1" ;;
    sysctl)
        if [ -e "/proc/sys/net/$1" ] && ! others_hold "$1"; then
            write_sysctl "$1" "$2" || echo "$role: $interface: cannot set /proc/sys/net/$1 to $2" >&2
        fi
        ;;
    esac
}

drop() {
    if [ -n "$dry_run" ]; then
        echo "$*"
        return 0
    fi
    said=$("$@" 2>&1) || case $said in
    *"No such"* | *"Cannot find device"* | *"does not exist"*) ;;
    *) echo "$role: $interface: $*: $(echo "$said" | head -n 1)" >&2 ;;
    esac
}

# Making things.

ready_to_work() {
    for program in ip nft; do
        command -v $program >/dev/null || die "needs $program, which is not installed"
    done
    case $(ip -V 2>&1) in
    *iproute2*) ;;
    *) die "needs the ip of iproute2 (on OpenWrt the package ip-full)" ;;
    esac
    [ -n "$dry_run" ] || [ "$(id -u)" = 0 ] || die "needs root"
}

remember() {
    [ -n "$dry_run" ] || echo "$*" >>"$draft"
}

run() {
    if [ -n "$dry_run" ]; then
        echo "$*"
        return 0
    fi
    said=$("$@" 2>&1) || case $said in
    *"File exists"*) ;;
    *) die "$*: $(echo "$said" | head -n 1)" ;;
    esac
}

# Hands the standard input to a program that reads a batch.
run_batch() {
    if [ -n "$dry_run" ]; then
        echo "$* <<EOF"
        cat
        echo EOF
        return 0
    fi
    said=$("$@" 2>&1) || die "$*: $(echo "$said" | head -n 1)"
}

# A table and a preference for the interface: 20 of them, from 7700 for nc0, 7720 for nc1, ...
choose_numbers() {
    if [ -z "$base" ]; then
        digits=$(echo "$interface" | sed 's/.*[^0-9]//')
        case $digits in
        ? | [1-9]?) base=$((7700 + 20 * digits)) ;;
        *) die "no number follows from its name; give one with --table" ;;
        esac
    fi
    if [ ! -e "$ledger" ] && ! nft list table inet "$table" >/dev/null 2>&1; then
        for family in 4 6; do
            held=$(ip "-$family" route show table $((base + offset)) 2>/dev/null || :)
            [ -z "$held" ] || die "routing table $((base + offset)) is in use by others; give a free one with --table"
        done
    fi
}

# rule FAMILY SELECTOR...
rule() {
    remember "rule $*"
    family=$1
    shift
    run ip "-$family" rule add "$@"
}

# route FAMILY ROUTE...
route() {
    remember "route $*"
    family=$1
    shift
    run ip "-$family" route replace "$@"
}

# The length of a prefix, 0 for a default route: length_of FAMILY PREFIX
length_of() {
    case $2 in
    default) echo 0 ;;
    */*) echo "${2##*/}" ;;
    *) [ "$1" = 4 ] && echo 32 || echo 128 ;;
    esac
}

# The table of nft, with what the standard input adds to the clamping of the MSS. It is replaced as
# a whole, in one transaction.
#
# What leaves by the interface is clamped to its MTU of that moment. What comes in is clamped to the
# MTU of now, for a peer that does not clamp; it then stays as it is, which only ever errs if the MTU
# shrinks later.
nft_table() {
    remember "table $table"
    run_batch nft -f - <<EOF
table inet $table
delete table inet $table
table inet $table {
    chain mss {
        type filter hook forward priority mangle; policy accept;
        oifname "$interface" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
        iifname "$interface" meta nfproto ipv4 tcp flags & (syn | rst) == syn tcp option maxseg size set $((mtu - 40))
        iifname "$interface" meta nfproto ipv6 tcp flags & (syn | rst) == syn tcp option maxseg size set $((mtu - 60))
    }
$(cat)
}
EOF
}

# A line of nft for each family that `v4` and `v6` have addresses of:
# each_family BEFORE saddr|daddr AFTER
each_family() {
    # shellcheck disable=SC2086,SC2154
    if [ -n "$v4" ]; then echo "        $1 ip $2 $(nft_set $v4) $3"; fi
    # shellcheck disable=SC2086,SC2154
    if [ -n "$v6" ]; then echo "        $1 ip6 $2 $(nft_set $v6) $3"; fi
}

# This host's answers to the client, whose address its routes would take for its own or for the remote
# portal's. An ICMP error takes its mark from the packet that it answers, and with that its way and a
# source address to match; all else is marked by its connection. The input adds rules for output.
reflect_marks() {
    if [ -n "$v4" ]; then set_sysctl ipv4/fwmark_reflect 1; fi
    if [ -n "$v6" ]; then set_sysctl ipv6/fwmark_reflect 1; fi
}

answers_to_client() {
    echo "    chain output {"
    echo "        type route hook output priority mangle; policy accept;"
    each_family "ct mark & $CLIENT != 0" daddr "meta mark set meta mark | $CLIENT"
    cat
    echo "    }"
}

# The statement of nft for source NAT: to the address of the family in `snat`, else the interface's own.
translation() {
    # shellcheck disable=SC2086,SC2154
    own=$(of_family "$1" $snat)
    case $1$own in
    4 | 6) echo masquerade ;;
    4*) echo "snat ip to $own" ;;
    6*) echo "snat ip6 to $own" ;;
    esac
}

# Sysctls. Their names are paths below /proc/sys/net, as names of interfaces may hold dots.

read_sysctl() {
    cat "/proc/sys/net/$1" 2>/dev/null || echo 0
}

write_sysctl() {
    if [ -n "$dry_run" ]; then
        echo "echo $2 >/proc/sys/net/$1"
        return 0
    fi
    { echo "$2" >"/proc/sys/net/$1"; } 2>/dev/null
}

# The value from before the first set-up that changed it, if one did.
saved_sysctl() {
    saved=$(grep -hsF "sysctl $1 " "$ledger" "$run_dir"/*.setup | head -n 1) || :
    echo "${saved##* }"
}

# Whether another interface's set-up relies on it; the last one restores it.
others_hold() {
    for other in "$run_dir"/*.setup; do
        [ "$other" = "$ledger" ] || ! grep -qsF "sysctl $1 " "$other" || return 0
    done
    return 1
}

set_sysctl() {
    [ -e "/proc/sys/net/$1" ] || [ -n "$dry_run" ] || return 0
    now=$(read_sysctl "$1")
    before=$(saved_sysctl "$1")
    if [ "$now" = "$2" ] && [ -z "$before" ]; then return 0; fi
    remember "sysctl $1 ${before:-$now}"
    [ "$now" = "$2" ] || write_sysctl "$1" "$2" || die "cannot set /proc/sys/net/$1 to $2"
}

# The greater of `all` and the interface's own value counts: 2 wins over a strict `all`, and where
# neither is strict there is nothing to do.
loose_rp_filter() {
    key=ipv4/conf/$1/rp_filter
    all=$(read_sysctl ipv4/conf/all/rp_filter)
    here=$(read_sysctl "$key")
    [ "$all" -gt "$here" ] || all=$here
    if [ "$all" = 1 ] || [ -n "$(saved_sysctl "$key")" ]; then set_sysctl "$key" 2; fi
}

# Forwarding between these interfaces. IPv4 has it per interface; IPv6 only for all at once, and then
# interfaces that live by router advertisements must be told to go on doing so.
forward_between() {
    for name in "$@"; do set_sysctl "ipv4/conf/$name/forwarding" 1; done
    [ -d /proc/sys/net/ipv6 ] || return 0
    all=$(read_sysctl ipv6/conf/all/forwarding)
    for directory in /proc/sys/net/ipv6/conf/*; do
        name=${directory##*/}
        case $name in all | default | lo | "$interface") continue ;; esac
        # Whoever sets `all` sets each of them.
        key=ipv6/conf/$name/forwarding
        before=$(saved_sysctl "$key")
        if [ "$all" = 0 ] && [ -z "$before" ]; then before=$(read_sysctl "$key"); fi
        if [ "$before" = 1 ]; then remember "sysctl $key 1"; fi
        key=ipv6/conf/$name/accept_ra
        if [ -n "$(saved_sysctl "$key")" ] || [ "$all$(read_sysctl "$key")" = 01 ]; then set_sysctl "$key" 2; fi
    done
    set_sysctl ipv6/conf/all/forwarding 1
}

# What the system has.

# The stable addresses of an interface for the world: addresses_of FAMILY INTERFACE
addresses_of() {
    ip -o "-$1" addr show dev "$2" scope global 2>/dev/null |
        sed -n '/ temporary\| deprecated\| tentative/d; s/.* inet6\{0,1\} \([^ /]*\).*/\1/p'
}

# The interface of the default route.
default_interface() {
    { ip -4 route show default && ip -6 route show default; } 2>/dev/null |
        sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1
}

must_exist() {
    ip link show dev "$1" >/dev/null 2>&1 || die "there is no interface $1"
}

# Links: their own packets keep to them. link_rules NUMBER INTERFACE[,GATEWAY]...
link_rules() {
    [ "$1" -le 16 ] || die "more than 16 links"
    own_table=$((base + $1))
    name=${2%%,*}
    must_exist "$name"
    gateways=$(echo "$2" | tr , ' ')
    gateways=${gateways#"$name"}
    found=''
    for family in 4 6; do
        # shellcheck disable=SC2086
        gateway=$(of_family "$family" $gateways)
        [ -n "$gateway" ] || gateway=$(ip "-$family" route show default dev "$name" 2>/dev/null |
            sed -n 's/.*via \([^ ]*\).*/\1/p' | head -n 1)
        [ -n "$gateway" ] || continue
        found=yes
        for prefix in $(ip "-$family" route show table main dev "$name" scope link 2>/dev/null | sed 's/ .*//'); do
            case $prefix in default | fe80:* | ff00:*) continue ;; esac
            route "$family" "$prefix" dev "$name" table "$own_table"
        done
        if [ "$family" = 6 ]; then
            for prefix in $(ip -6 route show table main dev "$name" proto kernel | sed 's/ .*//'); do
                case $prefix in fe80:* | ff00:*) continue ;; esac
                route 6 "$prefix" dev "$name" table "$own_table"
            done
        fi
        route "$family" default via "$gateway" dev "$name" table "$own_table"
        rule "$family" pref $((base + 3)) oif "$name" lookup "$own_table"
        for own in $(addresses_of "$family" "$name"); do
            rule "$family" pref $((base + 3)) from "$own" lookup "$own_table"
        done
    done
    [ -n "$found" ] || die "--link $name: no gateway is known; write --link $name,GATEWAY"
    # Two links may be in one subnet: each answers for its own address only.
    set_sysctl "ipv4/conf/$name/arp_ignore" 1
    set_sysctl "ipv4/conf/$name/arp_announce" 2
    loose_rp_filter "$name"
}
