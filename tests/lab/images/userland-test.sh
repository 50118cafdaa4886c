#!/bin/sh
# Exercises a Debian userland inside a container and checks its own results:
# files, processes, pipes, arithmetic, and that the image's layers are stacked
# as they should. Prints TAP; the exit code says whether all of it held.
set -u
LC_ALL=C
export LC_ALL
count=0
failed=0

is() {
    count=$((count + 1))
    if [ "$2" = "$3" ]; then
        echo "ok $count - $1"
    else
        failed=$((failed + 1))
        echo "not ok $count - $1"
        echo "# got '$2', expected '$3'"
    fi
}

holds() {
    what=$1
    shift
    if "$@" > /dev/null 2>&1; then is "$what" yes yes; else is "$what" no yes; fi
}

fails() {
    what=$1
    shift
    if "$@" > /dev/null 2>&1; then is "$what" yes no; else is "$what" no no; fi
}

work=$(mktemp -d) || { echo "not ok 1 - a temporary directory"; exit 1; }
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

# --- files
echo one > a
is "write and read a file" "$(cat a)" one
echo two >> a
is "append to it" "$(wc -l < a)" 2
cp a b && mv b c
is "copy and rename" "$(cksum < a)" "$(cksum < c)"
ln a hard && ln -s a soft
is "hard link shares the inode" "$(stat -c %i a)" "$(stat -c %i hard)"
is "link count" "$(stat -c %h a)" 2
is "symbolic link" "$(readlink soft)" a
chmod 640 a
is "permissions" "$(stat -c %a a)" 640
mkdir -p deep/er/est && echo x > deep/er/est/file
is "find" "$(find deep -type f)" deep/er/est/file
fails "rmdir of a full directory" rmdir deep
rm -r deep
holds "rm -r" test ! -e deep
truncate -s 1M sparse
is "sparse file's size" "$(stat -c %s sparse)" 1048576
dd if=/dev/zero of=zeros bs=4096 count=256 2> /dev/null
holds "the same content" cmp -s sparse zeros
printf 'abcdef' > seek && printf 'XY' | dd of=seek bs=1 seek=2 conv=notrunc 2> /dev/null
is "write in the middle" "$(cat seek)" abXYef
mkfifo pipe
(echo through > pipe) &
is "named pipe" "$(cat pipe)" through
wait
tree=/usr/lib/x86_64-linux-gnu/perl-base
tar -cf tree.tar -C "$tree" . && mkdir copy && tar -xf tree.tar -C copy
holds "tar out and in again" diff -r "$tree" copy
gzip -k tree.tar && xz -1 -k tree.tar
is "gzip" "$(gzip -dc tree.tar.gz | cksum)" "$(cksum < tree.tar)"
is "xz" "$(xz -dc tree.tar.xz | cksum)" "$(cksum < tree.tar)"

# --- the image's layers, and writing over them
is "a file of the lower layer" "$(cat /opt/layers/kept)" lower
is "a file that the upper layer replaces" "$(cat /opt/layers/replaced)" upper
holds "a file that the upper layer removes" test ! -e /opt/layers/removed
is "an opaque directory" "$(ls /opt/layers/opaque)" new
cp /etc/debian_version version
echo changed >> /etc/debian_version
is "an image's file can be changed" "$(tail -n 1 /etc/debian_version)" changed
cp version /etc/debian_version
rm /opt/layers/kept
holds "and removed" test ! -e /opt/layers/kept
echo lower > /opt/layers/kept
mv /opt/layers/kept /opt/layers/moved && mv /opt/layers/moved /opt/layers/kept
is "and renamed" "$(cat /opt/layers/kept)" lower
holds "a program's set-uid bit" test -u /bin/su

# --- processes
sh -c 'exit 7'
is "exit code" $? 7
# The shell tells of these two on standard error.
exec 3>&2 2> /dev/null
sh -c 'kill -TERM $$'
status=$?
sleep 100 &
pid=$!
kill -KILL $pid
wait $pid
killed=$?
exec 2>&3 3>&-
is "ended by a signal" $status 143
is "wait for a killed child" $killed 137
is "a trap" "$(sh -c 'trap "echo caught" USR1; kill -USR1 $$')" caught
n=0
for i in 1 2 3 4 5 6 7 8; do
    sh -c "exit $i" &
    eval "p$i=$!"
done
for i in 1 2 3 4 5 6 7 8; do
    eval "wait \$p$i"
    n=$((n + $?))
done
is "eight children at once" $n 36
holds "proc knows this process" grep -q '^State:' /proc/$$/status
is "ps sees it" "$(ps -o pid= -p $$ | tr -d ' ')" $$
is "environment" "$(FOO='b a r' sh -c 'echo "$FOO"')" 'b a r'
is "working directory" "$(sh -c 'cd /usr && pwd')" /usr

# --- pipes
is "a long pipeline" \
    "$(seq 1 1000 | grep 7 | sort -rn | head -n 3 | tr '\n' ' ')" \
    '997 987 979 '
is "1 MB through a pipe" "$(tr '\0' 'z' < zeros | wc -c)" 1048576
is "random bytes through pipes" \
    "$(head -c 3000000 /dev/urandom | tee random | sha256sum)" \
    "$(sha256sum < random)"
is "here document" "$(cat <<END
$((6 * 7))
END
)" 42
is "standard error apart" "$( (echo out; echo err >&2) 2> errors)" out
is "and kept" "$(cat errors)" err
is "a reader that goes early" "$(yes 2> /dev/null | head -n 1)" y
is "xargs" "$(seq 1 10 | xargs -n 5 | wc -l)" 2

# --- arithmetic
is "shell arithmetic" $(((12345 * 6789 - 11) % 1000)) 194
is "bc" "$(echo '2^200' | bc)" \
    1606938044258990275541962092341162602522202993782792835301376
is "awk" "$(seq 1 100 | awk '{ s += $1 * $1 } END { print s }')" 338350
is "perl" "$(perl -e '$f = 1; $f *= $_ for 1 .. 20; print $f')" \
    2432902008176640000
is "floating point" "$(awk 'BEGIN { printf "%.6f", atan2(0, -1) }')" 3.141593
is "primes" "$(seq 2 500 | factor | awk 'NF == 2' | wc -l)" 95
is "digest" "$(printf abc | sha256sum | cut -c 1-16)" ba7816bf8f01cfea

# --- the system
is "distribution" "$(. /etc/os-release && echo "$ID")" debian
is "users" "$(id -u):$(getent passwd 0 | cut -d : -f 1)" 0:root
is "null" "$(wc -c < /dev/null)" 0
is "zero" "$(head -c 10 /dev/zero | tr '\0' 0)" 0000000000
holds "package database" dpkg -s perl-base

echo "1..$count"
echo "# $failed of $count failed"
[ "$failed" -eq 0 ]
