#!/bin/sh
# initramfs.sh AGENT OUT: the guest's initramfs, an uncompressed newc archive
# with the agent as /init, its mount points and a console. Written by hand, so
# that it needs no root for the device node and is the same for the same agent.
set -eu

agent=$1
out=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
number=0

# entry NAME MODE SIZE MAJOR MINOR: a header with its name, padded to 4 bytes.
entry() {
    number=$((number + 1))
    printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\0' \
        "$number" "$2" 0 0 1 0 "$3" 0 0 "$4" "$5" $((${#1} + 1)) 0 "$1"
    pad $((110 + ${#1} + 1))
}

pad() {
    head -c $(((4 - $1 % 4) % 4)) /dev/zero
}

strip -s -o "$work/init" "$agent"
size=$(wc -c <"$work/init")
{
    for directory in dev proc run sys; do
        entry "$directory" 0040755 0 0 0
    done
    entry dev/console 0020600 0 5 1
    entry dev/null 0020666 0 1 3
    entry init 0100755 "$size" 0 0
    cat "$work/init"
    pad "$size"
    entry 'TRAILER!!!' 0 0 0 0
} >"$work/cpio"
mv "$work/cpio" "$out"
