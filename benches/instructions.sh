#!/usr/bin/env bash
# Counts the instructions that one query costs on the fast path, with callgrind,
# and compares with the committed baseline: a figure that does not depend on the
# machine's mood.
#
#   benches/instructions.sh           compare; fails when a kind costs 3 % more
#   benches/instructions.sh --update  write the baseline anew
set -euo pipefail
cd "$(dirname "$0")/.."
baseline=benches/instructions.baseline

command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed"; exit 0; }
program=$(cargo bench --no-run --bench instructions 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p')

# Instructions of so many rounds, a thousand queries each.
instructions() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1 >/dev/null |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

failed=0
measured=$(for kind in blocked cached; do
    few=$(instructions "$kind" 1)
    many=$(instructions "$kind" 101)
    echo "$kind $(((many - few) / 100000))"
done)
echo "$measured"
if [ "${1-}" = --update ]; then
    echo "$measured" >"$baseline"
    exit 0
fi
while read -r kind now; do
    before=$(awk -v kind="$kind" '$1 == kind { print $2 }' "$baseline")
    if [ $((now * 100)) -gt $((before * 103)) ]; then
        echo "$kind: $now instructions a query, $before before; make it cheaper or say why in the change that updates $baseline"
        failed=1
    fi
done <<<"$measured"
exit "$failed"
