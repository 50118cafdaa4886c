#!/bin/sh
# Builds the guest kernel: build.sh DIRECTORY leaves DIRECTORY/vmlinux.
#
# The options of *.config here go over allnoconfig of Debian's linux-source with
# the changes of *.patch; an option that did not survive Kconfig is an error. A
# second run with the same options, changes, source and compiler does nothing.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
[ $# -eq 1 ] || { echo "usage: build.sh DIRECTORY" >&2; exit 2; }
mkdir -p "$1"
out=$(CDPATH='' cd -- "$1" && pwd)
source=${LINUX_SOURCE:-/usr/src/linux-source-6.1.tar.xz}
jobs=$(nproc)

fail()
{
    echo "guest kernel: $*" >&2
    exit 1
}

# step WHAT COMMAND…: its output goes to the log, and every few seconds a line
# to the screen says that it still runs.
step()
{
    what=$1
    shift
    begin=$(date +%s)
    "$@" >> "$log" 2>&1 &
    child=$!
    trap 'kill "$child" 2>/dev/null || true' EXIT INT TERM
    waited=0
    while kill -0 "$child" 2>/dev/null; do
        sleep 1
        waited=$((waited + 1))
        if [ $((waited % 5)) -eq 0 ]; then
            echo "  guest kernel: $what, $(count) $(($(date +%s) - begin)) s"
        fi
    done
    if ! wait "$child"; then
        trap - EXIT INT TERM
        tail -n 20 "$log" >&2
        fail "$what failed; the log is $log"
    fi
    trap - EXIT INT TERM
}

# How far the compiler is, where it is the compiler that runs.
count()
{
    case $what in
    compile) echo "$(grep -c '^  [A-Z]' "$log" || true) steps of about 1700," ;;
    esac
}

[ -r "$source" ] || fail "$source is missing; \`make deps\` installs it"

# One build at a time in a directory.
exec 9> "$out/lock"
flock 9

# A line is CONFIG_X=value and, after #, its reason.
options=$(sed 's/[[:space:]]*#.*//; /^$/d' "$here"/*.config)
digest=$({ echo "$options"; cat "$here/build.sh" "$here"/*.patch; cc --version | head -n 1
    ld --version | head -n 1; stat -L -c '%s %Y' "$source"; } |
    sha256sum | cut -c 1-32)

if [ -f "$out/vmlinux" ] && [ "$(cat "$out/digest" 2>/dev/null)" = "$digest" ]
then
    touch "$out/vmlinux"
    exit 0
fi

log=$out/build.log
: > "$log"
rm -f "$out/digest"
tree=$out/linux
echo "guest kernel: some minutes, once; the log is $log"
# What is unpacked is reused while it is the same source.
unpacked=$({ stat -L -c '%s %Y' "$source"; cat "$here"/*.patch; } | sha256sum)
if [ "$(cat "$tree/.unpacked" 2>/dev/null)" != "$unpacked" ]; then
    rm -rf "$tree"
    mkdir -p "$tree"
    step "unpack" tar -C "$tree" --strip-components=1 -xf "$source" \
        --exclude='*/Documentation/*/*' --exclude='*/drivers/gpu/*.[ch]' \
        --exclude='*/drivers/net/*/*/*.[ch]' --exclude='*/tools/testing/*'
    for change in "$here"/*.patch; do
        step "patch" patch -d "$tree" -p1 -i "$change"
    done
    echo "$unpacked" > "$tree/.unpacked"
fi

# Two builds of the same options give the same bytes.
KBUILD_BUILD_TIMESTAMP=$(LC_ALL=C TZ=UTC0 date -r "$source")
export KBUILD_BUILD_TIMESTAMP KBUILD_BUILD_USER=domus \
    KBUILD_BUILD_HOST=domus KBUILD_BUILD_VERSION=1 KCONFIG_NOTIMESTAMP=1
# The caller may be a make of its own, with variables that are not for Linux.
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS LDFLAGS V 2>/dev/null || true

echo "$options" > "$out/options"
step "configure" make -C "$tree" allnoconfig "KCONFIG_ALLCONFIG=$out/options"

lost=$(echo "$options" | while IFS='=' read -r name value; do
    case $value in
    n) ! grep -q "^$name=" "$tree/.config" || echo "$name is on" ;;
    *) grep -qxF "$name=$value" "$tree/.config" ||
        echo "$name=$value is not in the result" ;;
    esac
done)
[ -z "$lost" ] || fail "options that Kconfig did not take over:
$lost"

step "compile" make -C "$tree" "-j$jobs" vmlinux
strip -o "$out/vmlinux.new" "$tree/vmlinux"
# Where a crash was: the kernel itself knows no names.
cp "$tree/System.map" "$out/System.map"
mv "$out/vmlinux.new" "$out/vmlinux"
echo "$digest" > "$out/digest"
size "$out/vmlinux" | awk -v options="$(echo "$options" | wc -l)" 'NR == 2 {
    printf "guest kernel: %d options kept; %.1f MiB in memory (text %.1f, data %.1f, bss %.1f)\n",
        options, $4 / 1048576, $1 / 1048576, $2 / 1048576, $3 / 1048576 }'
