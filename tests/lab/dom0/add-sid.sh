#!/bin/sh
# add-sid.sh ROOT PACKAGE…: these packages come from Debian's sid, and nothing
# else does. mmdebstrap calls it before it reads the lists.
set -eu
root=$1
shift
mkdir -p "$root/etc/apt/sources.list.d" "$root/etc/apt/preferences.d"
# From the mirror that everything else comes from.
mirror=$(cat "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*.list \
    2> /dev/null | awk '$1 == "deb" {
        for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }')
[ -n "$mirror" ] || { echo "add-sid.sh: the tree names no mirror" >&2; exit 1; }
# A mirror may lag behind for longer than sid's lists say they are valid.
echo "deb [check-valid-until=no] $mirror sid main" \
    > "$root/etc/apt/sources.list.d/sid.list"
cat > "$root/etc/apt/preferences.d/sid" << END
Package: *
Pin: release n=sid
Pin-Priority: -1

Package: $*
Pin: release n=sid
Pin-Priority: 990
END
